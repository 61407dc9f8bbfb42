// A file cannot know that its writer has gone; its reader can.
const taken = Number(document.querySelector("main").dataset.taken);
if (Date.now() / 1000 - taken > 180) document.querySelector(".stale").hidden = false;
