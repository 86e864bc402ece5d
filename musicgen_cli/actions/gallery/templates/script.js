
"use strict";
// One take is current. There are two audio elements, so that the other take of a comparison is loaded in advance.
const find = (selector, within = document) => within.querySelector(selector);
const takes = [...document.querySelectorAll(".take")];
const player = find("#player");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let deck = new Audio(), spare = new Audio();
let current = null;
const partners = new Map(); // card → the take of it that was current before

const cardOf = take => take.closest(".card");
const titleOf = take => find("h2", cardOf(take)).textContent;
const secondsOf = take => Number(take.dataset.seconds);
const isPlaying = () => current !== null && !deck.paused && !deck.ended;
const shown = () => takes.filter(take => !take.hidden);
const minutes = s => Math.floor(s / 60) + ":" + String(Math.floor(s % 60)).padStart(2, "0");
const announce = text => { find("#status").textContent = text; };

function load(audio, take) {
  if (audio.take === take) return;
  audio.take = take;
  audio.preload = "auto";
  audio.src = find(".file", take).href;
}

function partnerOf(take) {
  const others = shown().filter(other => other !== take && cardOf(other) === cardOf(take));
  const before = partners.get(cardOf(take));
  return others.includes(before) ? before : others.find(other => takes.indexOf(other) > takes.indexOf(take)) ?? others[0];
}

function start(take, at = 0, play = true) {
  if (take !== current) {
    const old = current;
    if (old && cardOf(old) === cardOf(take)) partners.set(cardOf(take), old);
    const before = deck;
    [deck, spare] = [spare, deck];
    load(deck, take);
    current = take;
    become(old, take);
    deck.currentTime = at;
    if (play) deck.play().catch(failed); // before the other one stops, so that a comparison has no gap
    before.pause();
    const partner = partnerOf(take);
    if (partner) load(spare, partner);
  } else {
    deck.currentTime = at;
    if (play) deck.play().catch(failed);
  }
  show();
}

function failed(error) {
  if (error.name !== "AbortError") announce("This sound can't be played here");
}

function toggle(take) {
  if (take !== current) start(take);
  else if (isPlaying()) deck.pause();
  else deck.play().catch(failed);
}

function switchTakes() {
  const partner = current && partnerOf(current);
  if (!partner) return;
  start(partner, Math.min(deck.currentTime, secondsOf(partner)), isPlaying());
  announce(find("#which").textContent);
}

function seek(seconds) {
  if (current) deck.currentTime = Math.max(0, Math.min(secondsOf(current), seconds));
}

// Only the current take has a slider and a second, coloured waveform: a page may have a thousand takes.
function become(old, take) {
  if (old) {
    const wave = find(".wave", old);
    find(".played", wave).remove();
    for (const name of ["role", "tabindex", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-valuetext"]) wave.removeAttribute(name);
    find(".time", old).textContent = minutes(Math.ceil(secondsOf(old)));
    old.classList.remove("current", "playing");
    find(".play", old).ariaLabel = "Play " + old.ariaLabel;
    for (const slot of cardOf(old).querySelectorAll("b")) slot.remove();
  }
  const wave = find(".wave", take);
  const played = find("svg", wave).cloneNode(true);
  played.classList.add("played");
  wave.append(played);
  wave.role = "slider";
  wave.tabIndex = 0;
  wave.ariaLabel = "Position";
  wave.ariaValueMin = 0;
  wave.ariaValueMax = secondsOf(take);
  take.classList.add("current");
  const partner = partnerOf(take);
  const isFirst = partner && takes.indexOf(take) < takes.indexOf(partner);
  if (partner) {
    for (const [letter, one] of [[isFirst ? "A" : "B", take], [isFirst ? "B" : "A", partner]]) {
      const slot = document.createElement("b");
      slot.textContent = letter;
      find(".own", one).prepend(slot);
    }
  }
  player.hidden = false;
  find("#now").textContent = titleOf(take);
  find("#which").textContent = partner ? (isFirst ? "A, " : "B, ") + find(".own", take).dataset.which : "";
  const button = find("#switch");
  button.hidden = !partner;
  if (partner) button.ariaLabel = `Switch to ${isFirst ? "B" : "A"}, ${find(".own", partner).dataset.which}, at the same position`;
}

function show() {
  if (!current) return;
  const playing = isPlaying();
  for (const [element, label] of [[current, current.ariaLabel], [player, titleOf(current)]]) {
    element.classList.toggle("playing", playing);
    find(".play", element).ariaLabel = (playing ? "Pause " : "Play ") + label;
  }
  const total = secondsOf(current), at = Math.min(deck.currentTime, total);
  find(".played", current).style.setProperty("--at", (100 * at / total) + "%");
  const clock = minutes(at);
  find(".time", current).textContent = clock;
  find("#clock").textContent = `${clock} / ${minutes(Math.ceil(total))}`;
  const wave = find(".wave", current);
  wave.ariaValueNow = at.toFixed(1);
  wave.ariaValueText = `${clock} of ${minutes(Math.ceil(total))}`;
}

function frame() {
  show();
  if (isPlaying() && !calm.matches) requestAnimationFrame(frame);
}
for (const audio of [deck, spare]) {
  for (const event of ["play", "pause", "ended", "seeked", "timeupdate"]) {
    audio.addEventListener(event, () => { if (audio === deck) (event === "play" ? frame : show)(); });
  }
  audio.addEventListener("error", () => { if (audio === deck && current) failed(audio.error); });
}

function step(by, takesFocus) {
  const list = shown();
  const from = document.activeElement.closest(".take") ?? current;
  const take = list[from ? list.indexOf(from) + by : by > 0 ? 0 : list.length - 1];
  if (!take) return;
  if (takesFocus) find(".play", take).focus();
  start(take, 0, isPlaying());
  take.scrollIntoView({ block: "nearest" });
}

async function copy(button) {
  const isStar = button.matches(".star");
  const code = isStar ? [...button.parentElement.querySelectorAll("code")].at(-1) : find("code", button.parentElement);
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // no permission, or a page without https
    code.closest("details").open = true;
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.classList.add("copied");
  if (!isStar) button.textContent = "Copied";
  announce(isStar ? "Copied: " + code.textContent : "Copied");
  setTimeout(() => {
    button.classList.remove("copied");
    if (!isStar) button.textContent = "Copy";
  }, 2000);
}

const tags = [...document.querySelectorAll(".tags [aria-pressed]")];
const search = find("#search");
const counted = find("#count").textContent;
const fold = text => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
let texts = null;
function filter() {
  texts ??= takes.map(take => fold([take.ariaLabel, take.id, ...take.dataset.tags.split(" ").map(i => tags[i]?.value)].join(" ")));
  const words = fold(search.value).split(/\s+/).filter(Boolean);
  const selected = tags.filter(tag => tag.ariaPressed === "true").map(tag => String(tags.indexOf(tag)));
  let count = 0;
  takes.forEach((take, i) => {
    const its = take.dataset.tags.split(" ");
    take.hidden = !(selected.every(tag => its.includes(tag)) && words.every(word => texts[i].includes(word)));
    count += !take.hidden;
  });
  for (const card of document.querySelectorAll(".card")) card.hidden = !find(".take:not([hidden])", card);
  find("#none").hidden = count > 0;
  find("#count").textContent = count < takes.length ? `${count} of ${takes.length} takes` : counted;
}
search.addEventListener("input", filter);

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  const take = event.target.closest(".take");
  if (button?.matches(".copy, .star")) copy(button);
  else if (button?.matches(".tags [aria-pressed]")) {
    button.ariaPressed = button.ariaPressed !== "true";
    filter();
  } else if (button?.matches(".all")) {
    const rare = tags.findIndex(tag => tag.hidden);
    for (const tag of tags) tag.hidden = false;
    button.remove();
    tags[rare].focus();
  } else if (button?.dataset.do) ({ toggle: () => toggle(current), previous: () => step(-1, false), next: () => step(1, false), switch: switchTakes })[button.dataset.do]();
  else if (button && take) toggle(take);
  else if (take && event.target.closest(".wave")) {
    const box = find(".wave", take).getBoundingClientRect();
    start(take, secondsOf(take) * (event.clientX - box.left) / box.width);
  }
});

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) {
    if (event.key === "Escape" && event.target === search) { search.value = ""; filter(); search.blur(); }
    return;
  }
  const isSlider = event.target.role === "slider";
  const now = deck.currentTime;
  const acts = {
    j: () => step(1, true), k: () => step(-1, true), x: switchTakes, "/": () => search.focus(),
    ArrowRight: () => seek(now + 1), ArrowLeft: () => seek(now - 1),
    ArrowDown: () => isSlider ? seek(now - 1) : step(1, true), ArrowUp: () => isSlider ? seek(now + 1) : step(-1, true),
  };
  if (isSlider) Object.assign(acts, { Home: () => seek(0), End: () => seek(Infinity) });
  if (!event.target.closest("button, a, summary")) acts[" "] = () => { const take = current ?? shown()[0]; if (take) toggle(take); };
  const act = acts[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
