// What the page gains from a script: it renews itself, and commands get a
// button that copies them. Without one everything is there all the same.
"use strict";

function addCopyButtons() {
  for (const box of document.querySelectorAll(".command")) {
    if (!navigator.clipboard || box.querySelector("button")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(box.querySelector("code").textContent.trim());
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    box.append(button);
  }
}

// renew puts a fresh page in place of this one's content, unless somebody is in
// the middle of it.
async function renew() {
  const main = document.querySelector("main");
  const busy = document.hidden || main.contains(document.activeElement) || String(getSelection()) !== "";
  if (busy) return;
  let fresh;
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.statusText);
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    document.body.classList.add("stale");
    return;
  }
  document.body.classList.remove("stale");
  for (const part of ["main", ".asof"]) {
    document.querySelector(part).replaceWith(fresh.querySelector(part));
  }
  addCopyButtons();
}

addCopyButtons();
const seconds = Number(document.body.dataset.refresh);
if (seconds > 0) setInterval(renew, seconds * 1000);
