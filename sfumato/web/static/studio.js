// The studio's page works without this; with it, it follows what runs, completes paths and copies.
"use strict";

const busy = document.body.dataset.status;
let tag = document.body.dataset.tag;
let touched = false;
document.addEventListener("input", () => { touched = true; });

function show(name, text) {
  for (const place of document.querySelectorAll(`[data-now="${name}"]`)) place.textContent = text;
}

async function follow() {
  try {
    const answer = await fetch(busy, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const now = await answer.json();
    show("line", now.line);
    const pace = now.pace;
    show("step", pace.steps ? `${pace.step} of ${pace.steps}` : "not begun");
    show("epsilon", pace.steps ? `${pace.epsilon} of ${pace.target}` : "none yet");
    show("rate", pace.rate || "not known yet");
    show("left", pace.left || "not known yet");
    for (const bar of document.querySelectorAll("progress[data-bar]")) {
      const share = bar.dataset.bar === "steps" ? pace.step / pace.steps : pace.epsilon / pace.target;
      if (pace.steps) bar.value = Math.min(1, share);
    }
    if (now.tag !== tag) {
      tag = now.tag;
      const held = touched && document.activeElement && document.activeElement.matches("input, select");
      if (held) show("news", "There is news: load the page again to see it."); else location.reload();
      return;
    }
    setTimeout(follow, now.busy ? 1500 : 6000);
  } catch {
    show("news", "The studio does not answer. What runs goes on; start `sfumato studio` again to see it.");
    setTimeout(follow, 6000);
  }
}
if (busy) setTimeout(follow, 1200);

// A narrow screen breaks a command between its words, not after the hyphens of a flag.
for (const line of document.querySelectorAll("details .command pre")) {
  line.replaceChildren(...line.textContent.split(/( )/).map((word) => {
    const part = document.createElement("span");
    part.className = word === " " ? "" : "arg";
    part.textContent = word;
    return part;
  }));
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch { button.textContent = "Select it"; }
  });
}

// On the plan, what was chosen last counts: a proposed time, or a folder that is written.
document.addEventListener("input", ({ target }) => {
  if (target.name === "time") target.form.elements.own_time.value = "";
  if (target.name === "folder") target.form.querySelector('[name="base"][value="own"]').checked = true;
});

const path = document.querySelector("input[data-paths]");
if (path) {
  const list = document.getElementById(path.getAttribute("list"));
  let asked = 0;
  path.addEventListener("input", async () => {
    const mine = ++asked;
    const answer = await fetch("/paths", { method: "POST", body: new URLSearchParams({ path: path.value }) });
    if (!answer.ok || mine !== asked) return;
    list.replaceChildren(...(await answer.json()).map((one) => {
      const option = document.createElement("option");
      option.value = one;
      return option;
    }));
  });
}

const slider = document.querySelector("input[data-odds]");
if (slider) {
  const all = JSON.parse(slider.dataset.odds);
  const stops = Object.keys(all).map(Number).sort((a, b) => a - b);
  const field = document.getElementById("epsilon");
  const put = (value) => {
    const near = stops.find((stop) => stop >= value - 1e-9) ?? stops[stops.length - 1];
    const said = all[String(near)];
    said.odds.forEach((text, i) => show(`odds-${i}`, text));
    said.usual.forEach((text, i) => show(`usual-${i}`, text));
    said.groups.forEach((text, i) => show(`group-${i}`, text));
    show("at", String(near));
    show("unchosen", "");
  };
  slider.addEventListener("input", () => {
    field.value = stops[Number(slider.value)];
    slider.setAttribute("aria-valuetext", `epsilon ${field.value}`);
    put(Number(field.value));
  });
  field.addEventListener("input", () => {
    const value = Number(field.value);
    if (value > 0) {
      slider.value = stops.findIndex((stop) => stop >= value - 1e-9);
      put(value);
    }
  });
  slider.closest("[hidden]")?.removeAttribute("hidden");
}

// Private thumbnails are fetched only once somebody opens them.
for (const box of document.querySelectorAll("details[data-picture]")) {
  box.addEventListener("toggle", () => {
    const image = box.querySelector("img");
    if (box.open && !image.getAttribute("src")) image.src = box.dataset.picture;
  });
}
