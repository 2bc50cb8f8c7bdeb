"""What all HTML pages share: the style sheet, the frame of a page, and grids of pictures.

Pages hold everything they show: no script, no font, no picture from elsewhere. They open offline,
print, and fit a phone as well as a desktop, by day and by night.
"""

from .frame import STYLE, page
from .pictures import ENLARGE, Picture, beside, counted, grid

__all__ = ["ENLARGE", "STYLE", "Picture", "beside", "counted", "grid", "page"]
