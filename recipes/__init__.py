"""How the bundled public bases are made: public packages in, a Stable Diffusion folder out.

Read in this order: `packages` (what is fetched), `glyphs` and `icons` (pictures), `captions`,
`autoencoder`, `denoiser`, and `make`, the command that runs them all.
"""
