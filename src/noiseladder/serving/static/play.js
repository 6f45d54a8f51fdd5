// The page of a world: it asks for one thing at a time and draws what comes. The protocol is in serving/messages.py.
"use strict";

const byId = (name) => document.getElementById(name);
const [REFUSED, FULL, ASLEEP, TAKEN_OVER, OVER, TOO_MANY_MISTAKES] = [4001, 4002, 4003, 4004, 4005, 4006];
const UNLIMITED = 61; // the end of the speed slider
const TRIES = [300, 600, 1200, 2500, 5000, 10000];

const world = { actions: [], idle: null, rate: 20, openings: [], keys: new Map() };
const link = { socket: null, entered: false, busy: false, tries: 0, timer: 0, closed: null };
const walk = { wanted: new Map(), held: [], tapped: null, auto: false, beside: false, recording: false, number: NaN };
const clock = { next: 0, timer: 0 };
const numbers = { steps: [], frame: null, step: null, timer: 0 }; // when frames came; the last one, and the last step
const memory = { columns: [], rows: [] }; // of the grid: a level for each remembered frame; rows as they were drawn

// ---------------------------------------------------------------- talking

function connect() {
  clearTimeout(link.timer);
  if (link.socket && link.socket.readyState <= WebSocket.OPEN) return;
  tellLink("connecting", "lost");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = (link.socket = new WebSocket(`${scheme}//${location.host}/world`));
  socket.binaryType = "arraybuffer";
  link.entered = link.busy = false;
  link.closed = null;
  socket.onopen = () => {
    const walkKey = sessionStorage.getItem("walk") || "";
    socket.send(JSON.stringify({ ask: "enter", token: location.hash.slice(1), walk: walkKey }));
  };
  socket.onmessage = (event) => socket === link.socket && answered(event.data);
  socket.onclose = (event) => socket === link.socket && lost(event);
}

function lost(event) {
  link.entered = link.busy = false;
  link.closed = event.code;
  clearTimeout(clock.timer);
  const asleep = event.code === ASLEEP;
  if ([REFUSED, FULL, TAKEN_OVER, OVER, TOO_MANY_MISTAKES].includes(event.code) || asleep) {
    tellLink(asleep ? "asleep" : "closed", "lost");
    say(asleep ? "The world fell asleep. Press any key or button to go on." : `${capital(event.reason)}.`, !asleep);
    return;
  }
  stopRecording();
  if (link.tries >= TRIES.length) {
    tellLink("lost", "lost");
    say("The world cannot be reached. Press any key or button to try again.", true);
    link.closed = ASLEEP;
    link.tries = 0;
    return;
  }
  tellLink("connecting again", "lost");
  link.timer = setTimeout(connect, TRIES[link.tries++]);
}

function wake() {
  if (!link.entered && [ASLEEP, FULL, OVER, TAKEN_OVER].includes(link.closed)) {
    say("");
    connect();
  }
}

function ask(question) {
  link.busy = true;
  link.asked = performance.now();
  link.socket.send(JSON.stringify(question));
}

// Things wanted are kept by their kind, so that a slider that is dragged does not make a queue.
function want(kind, question) {
  wake();
  walk.wanted.set(kind, question);
  pump();
}

function pump() {
  clearTimeout(clock.timer);
  if (!link.entered || link.busy || link.socket.readyState !== WebSocket.OPEN) return;
  for (const [kind, question] of walk.wanted) {
    walk.wanted.delete(kind);
    ask(question);
    return;
  }
  const now = performance.now();
  const question = document.hidden ? null : nextStep(now >= clock.next);
  if (question === undefined) {
    clock.timer = setTimeout(pump, clock.next - now);
  } else if (question !== null) {
    // Keep the beat when a frame was a little late, but do not run after many that were missed.
    clock.next = Math.max(clock.next + gap(), now);
    ask(question);
  }
}

function gap() {
  const pace = Number(byId("pace").value);
  return pace >= UNLIMITED ? 0 : 1000 / pace;
}

// What to ask next: undefined if there is something but it is too early, null if there is nothing.
function nextStep(due) {
  const own = walk.held.length || walk.tapped !== null;
  if (own && walk.beside) {
    setBeside(false);
    say("You left the real walk.");
  }
  if (!own && !walk.auto && !walk.beside) return null;
  if (!due) return undefined;
  if (walk.beside) return { ask: "follow" };
  const action = walk.held.length ? walk.held[walk.held.length - 1] : walk.tapped !== null ? walk.tapped : autopilot();
  walk.tapped = null;
  return { ask: "step", action };
}

const pilot = { action: 0, left: 0 };
function autopilot() {
  if (pilot.left-- > 0) return pilot.action;
  const any = Math.floor(Math.random() * world.actions.length);
  if (world.idle !== null) {
    pilot.action = Math.random() < 0.06 ? any : world.idle;
    pilot.left = 0;
  } else {
    const ahead = world.actions.findIndex((name) => /forward|ahead/.test(name));
    pilot.action = ahead >= 0 && Math.random() < 0.6 ? ahead : any;
    pilot.left = 2 + Math.floor(Math.random() * 9);
  }
  return pilot.action;
}

// ---------------------------------------------------------------- answers

function answered(data) {
  link.busy = false;
  if (typeof data === "string") {
    const told = JSON.parse(data);
    if (told.kind === "entered") enter(told);
    else if (told.kind === "dreaming") showSliders(told.sliders);
    else if (told.kind === "recording") say("Recording.");
    else if (told.kind === "refused") refused(told.why);
  } else {
    const length = new DataView(data).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const body = new Uint8Array(data, 4 + length);
    if (header.kind === "frame") show(header, body);
    else if (header.kind === "film") save(header.format, body);
  }
  pump();
}

function enter(told) {
  link.entered = true;
  link.tries = 0;
  walk.wanted.set("look", { ask: "look" }); // before anything else: a walk begins with it
  if (sessionStorage.getItem("walk") === told.walk) say("Here again, where you were.");
  else say("");
  sessionStorage.setItem("walk", told.walk);
  tellLink("connected", "open");
  const first = !world.actions.length;
  Object.assign(world, {
    actions: told.actions, idle: told.idle, rate: told.rate, openings: told.openings, longest: told.longestFilm,
  });
  document.title = `${told.title} · noiseladder`;
  byId("title").textContent = told.title;
  byId("note").textContent = told.note;
  byId("auto-text").textContent = told.sliders.length ? "Dream by itself" : "Let it run";
  byId("beside").hidden = !told.openings.some((opening) => opening.later);
  byId("format").replaceChildren(...told.formats.map((format) => new Option(format.toUpperCase(), format)));
  showSliders(told.sliders);
  showPad();
  showOpenings();
  byId("levels").hidden = byId("strip").hidden = !told.sliders.length;
  if (first) {
    byId("pace").value = Math.round(told.rate);
    showPace();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    setAuto(world.idle !== null && !still);
  }
}

function refused(why) {
  say(`${capital(why)}.`, true);
  if (walk.beside) setBeside(false);
  // What the world refuses once it would refuse again at once.
  setAuto(false);
  walk.held = [];
  markHeld();
}

function show(header, body) {
  const size = header.width * header.height * 3;
  draw(byId("dream"), header, body.subarray(0, size));
  const two = header.real;
  byId("real-figure").hidden = byId("psnr-box").hidden = !two;
  byId("pictures").classList.toggle("two", two);
  if (two) {
    draw(byId("real"), header, body.subarray(size, 2 * size));
    byId("psnr").textContent = psnr(body, size);
  }
  if (header.number === 0 || header.number < walk.number) memory.columns = memory.rows = null;
  numbers.frame = header;
  if (header.number === walk.number + 1) {
    numbers.step = header;
    numbers.steps.push(performance.now());
  }
  walk.number = header.number;
  if (header.number > 0 && header.levels.length) rememberLevels(header);
  else drawLevels(header);
  if (!numbers.timer || header.number === 0) tellNumbers();
  if (walk.recording && header.recorded !== null) {
    byId("record-text").textContent = `Save ${(header.recorded / world.rate).toFixed(1)} s`;
    if (header.recorded >= world.longest) say("The film is full: save it.");
  }
  if (walk.beside && header.left === 0 && header.number > 0) {
    setBeside(false);
    say("The recorded walk ends here.");
  }
}

// Four times a second, so that they can be read, for as long as anything changes: the last frame is told in any case,
// and frames/s falls to 0 when nobody steps.
function tellNumbers() {
  clearTimeout(numbers.timer);
  const { frame, step, steps } = numbers;
  while (steps[0] < performance.now() - 1000) steps.shift();
  byId("fps").textContent = steps.length;
  byId("number").textContent = frame.number;
  byId("players").textContent = frame.players;
  byId("dream").setAttribute("aria-label", `The world at frame ${frame.number}`);
  if (step) {
    byId("calls").textContent = step.calls;
    byId("cost").textContent = step.milliseconds.toFixed(step.milliseconds < 10 ? 1 : 0);
  }
  numbers.timer = steps.length ? setTimeout(tellNumbers, 250) : 0;
}

function draw(canvas, header, rgb) {
  if (canvas.width !== header.width || canvas.height !== header.height) {
    canvas.width = header.width;
    canvas.height = header.height;
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(header.width, header.height);
  const rgba = image.data;
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) {
    rgba[to] = rgb[from];
    rgba[to + 1] = rgb[from + 1];
    rgba[to + 2] = rgb[from + 2];
    rgba[to + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function psnr(body, size) {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += (body[i] - body[size + i]) ** 2;
  return sum === 0 ? "∞" : (10 * Math.log10((255 * 255 * size) / sum)).toFixed(1);
}

function save(format, bytes) {
  const kind = format === "gif" ? "image/gif" : "video/mp4";
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(new Blob([bytes], { type: kind }));
  anchor.download = `noiseladder-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.${format}`;
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60000);
  say(`Saved ${anchor.download}.`);
}

// ---------------------------------------------------------------- noise levels

const COLUMNS = 18, ROWS = 26;
const pattern = document.createElement("canvas");
pattern.width = pattern.height = 48;
{
  const context = pattern.getContext("2d");
  const image = context.createImageData(48, 48);
  for (let i = 0; i < image.data.length; i += 4) {
    image.data.fill(Math.random() * 255, i, i + 3);
    image.data[i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function rememberLevels(header) {
  if (!memory.columns) Object.assign(memory, { columns: [], rows: [] });
  for (const level of header.levels) memory.rows.push([...memory.columns, level]);
  memory.columns.push(header.remembered);
  // Rows keep their own width: all columns before the frame that they work on. Frames that have left are cut off.
  if (memory.columns.length > COLUMNS - 2) {
    memory.columns.shift();
    for (const row of memory.rows) row.shift();
  }
  memory.rows = memory.rows.slice(-ROWS).filter((row) => row.length);
  drawLevels(header);
}

function drawLevels(header) {
  if (byId("levels").hidden) return;
  const strip = sized(byId("strip"));
  const rungs = header.levels;
  strip.context.clearRect(0, 0, strip.width, strip.height);
  const kept = rungs.length ? 78 : 0; // pixels for the level at which the frame is remembered
  const wide = (strip.width - kept) / Math.max(1, rungs.length);
  rungs.forEach((level, index) => {
    cell(strip.context, level, index * wide, 0, wide - 2, strip.height);
    if (wide > 30) label(strip.context, short(level), index * wide + 6, strip.height - 8, wide - 12);
  });
  if (kept) {
    cell(strip.context, header.remembered, strip.width - kept + 6, 0, kept - 6, strip.height);
    label(strip.context, `kept ${short(header.remembered)}`, strip.width - kept + 12, strip.height - 8, kept - 18);
  }
  const words = rungs.map(short).join(", ");
  byId("strip").setAttribute(
    "aria-label", rungs.length ? `This frame's noise: ${words}; remembered at ${short(header.remembered)}` : "No noise yet");
  const grid = sized(byId("grid"));
  grid.context.clearRect(0, 0, grid.width, grid.height);
  const across = grid.width / COLUMNS, down = grid.height / ROWS;
  const rows = memory.rows || [];
  rows.forEach((row, index) => {
    for (let column = 0; column < COLUMNS; column++) {
      cell(grid.context, column < row.length ? row[column] : 1, column * across, index * down, across - 1, down - 1);
    }
  });
}

function sized(canvas) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

function cell(context, level, x, y, width, height) {
  context.fillStyle = "#f0b64a";
  context.fillRect(x, y, width, height);
  context.save();
  context.globalAlpha = Math.min(1, level);
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.fillStyle = context.createPattern(pattern, "repeat");
  context.fillRect(x, y, width, height);
  context.restore();
}

function label(context, text, x, y, widest) {
  context.font = "600 11px ui-monospace, monospace";
  const width = Math.min(widest, context.measureText(text).width);
  context.fillStyle = "rgba(20, 22, 27, .82)";
  context.fillRect(x - 3, y - 10, width + 6, 14);
  context.fillStyle = "#ece9e2";
  context.fillText(text, x, y, widest);
}

const short = (level) => String(Number(level.toFixed(2)));

// ---------------------------------------------------------------- controls

function showSliders(sliders) {
  const box = byId("sliders");
  for (const slider of sliders) {
    let input = byId(`slider-${slider.name}`);
    if (!input) {
      const row = document.createElement("div");
      row.className = "slider";
      const name = document.createElement("label");
      name.htmlFor = `slider-${slider.name}`;
      name.textContent = slider.name;
      input = document.createElement("input");
      const value = document.createElement("output");
      Object.assign(input, { type: "range", id: `slider-${slider.name}`, min: slider.least, max: slider.most, step: slider.by });
      value.htmlFor = input.id;
      input.oninput = () => {
        value.textContent = input.value;
        want(`dream ${slider.name}`, { ask: "dream", values: { [slider.name]: Number(input.value) } });
      };
      row.append(name, input, value);
      box.append(row);
    }
    // Not while it is being dragged: the answer may be older than the hand.
    if (!walk.wanted.has(`dream ${slider.name}`)) {
      input.value = slider.value;
      input.nextElementSibling.textContent = input.value;
    }
  }
}

const ARROWS = [
  [/\bleft\b/, "left", "←", "ArrowLeft", "a"],
  [/\bright\b/, "right", "→", "ArrowRight", "d"],
  [/\b(up|forward|ahead)\b/, "up", "↑", "ArrowUp", "w"],
  [/\b(down|back|backward)\b/, "down", "↓", "ArrowDown", "s"],
];

function showPad() {
  const pad = byId("pad");
  pad.replaceChildren();
  world.keys.clear();
  const used = new Set();
  world.actions.forEach((name, action) => {
    if (action < 9) world.keys.set(String(action + 1), action);
    if (action === world.idle) return;
    const arrow = ARROWS.find(([word, place]) => word.test(name) && !used.has(place));
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.action = action;
    button.setAttribute("aria-label", name);
    const sign = document.createElement("b");
    sign.setAttribute("aria-hidden", "true");
    sign.textContent = arrow ? arrow[2] : String(action + 1);
    button.append(sign, name);
    if (arrow) {
      used.add(arrow[1]);
      button.classList.add(arrow[1]);
      world.keys.set(arrow[3], action).set(arrow[4], action);
    }
    hold(button, action);
    pad.append(button);
  });
  const arrows = used.size ? "arrow keys or WASD" : "number keys";
  byId("hint").textContent = `Hold the ${arrows}, or the buttons: ${world.actions.join(", ")}.`;
}

function hold(button, action) {
  const release = () => letGo(action);
  button.onpointerdown = (event) => {
    if (event.button) return;
    event.preventDefault();
    button.setPointerCapture(event.pointerId);
    press(action);
  };
  button.onpointerup = button.onpointercancel = button.onlostpointercapture = release;
  button.oncontextmenu = (event) => event.preventDefault();
  // A click without a pointer comes from the keyboard or from a screen reader: one frame.
  button.onclick = (event) => {
    if (event.detail === 0) tap(action);
  };
}

function press(action) {
  wake();
  if (!walk.held.includes(action)) {
    walk.held.push(action);
    walk.tapped = action; // a short tap is one frame, even if it is over before its frame is due
  }
  markHeld();
  pump();
}

function letGo(action) {
  walk.held = walk.held.filter((other) => other !== action);
  markHeld();
}

function tap(action) {
  wake();
  walk.tapped = action;
  pump();
}

function markHeld() {
  for (const button of byId("pad").children) button.classList.toggle("held", walk.held.includes(Number(button.dataset.action)));
}

function showOpenings() {
  byId("openings").replaceChildren(
    ...world.openings.map((opening, number) => {
      const button = document.createElement("button");
      const image = new Image();
      button.type = "button";
      image.src = `data:image/png;base64,${opening.picture}`;
      image.alt = `Real frame ${number + 1}`;
      button.append(image);
      button.onclick = () => begin(number);
      return button;
    }),
  );
}

function begin(number) {
  if (walk.beside) setBeside(false);
  want("reset", number === undefined ? { ask: "reset" } : { ask: "reset", opening: number });
  say("");
}

function setAuto(on) {
  walk.auto = on;
  byId("auto").setAttribute("aria-pressed", on);
  if (on) {
    wake();
    pump();
  }
}

function setBeside(on) {
  walk.beside = on;
  byId("beside").setAttribute("aria-pressed", on);
  if (!on) return;
  setAuto(false);
  const recorded = world.openings.flatMap((opening, number) => (opening.later ? [number] : []));
  want("reset", { ask: "reset", opening: recorded[Math.floor(Math.random() * recorded.length)] });
  say("The same actions in the real walk and in the dream.");
}

function toggleRecording() {
  if (walk.recording) {
    stopRecording();
    say("Making the film.");
    want("film", { ask: "film", format: byId("format").value });
    return;
  }
  walk.recording = true;
  byId("record").setAttribute("aria-pressed", "true");
  byId("record-text").textContent = "Save";
  want("record", { ask: "record" });
}

function stopRecording() {
  walk.recording = false;
  byId("record").setAttribute("aria-pressed", "false");
  byId("record-text").textContent = "Record";
}

function showPace() {
  const pace = Number(byId("pace").value);
  byId("pace-value").textContent = pace >= UNLIMITED ? "no limit" : `${pace} / s`;
  clock.next = 0;
}

function tellLink(text, state) {
  byId("link").dataset.state = state;
  byId("link-text").textContent = text;
}

function say(text, bad = false) {
  byId("said").textContent = text;
  byId("said").classList.toggle("bad", bad);
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

byId("reset").onclick = () => begin();
byId("back").onclick = () => want("back", { ask: "back" });
byId("auto").onclick = () => setAuto(!walk.auto);
byId("beside").onclick = () => setBeside(!walk.beside);
byId("record").onclick = toggleRecording;
byId("pace").oninput = () => {
  showPace();
  pump();
};

const SHORTCUTS = { r: "reset", b: "back", p: "auto", c: "beside", v: "record", Backspace: "back" };
const typing = (target) => target.matches("input, select, textarea");

addEventListener("keydown", (event) => {
  wake();
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (world.keys.has(key)) {
    event.preventDefault(); // arrows would scroll the page
    if (!event.repeat) press(world.keys.get(key));
  } else if (key in SHORTCUTS && !event.repeat) {
    event.preventDefault();
    const button = byId(SHORTCUTS[key]);
    if (!button.hidden) button.click();
  }
});
addEventListener("keyup", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (world.keys.has(key)) letGo(world.keys.get(key));
});
// Who has moved a slider by hand wants to walk on with the arrows; who came to it with the keyboard keeps them there.
addEventListener("pointerup", (event) => event.target.matches?.("input[type=range]") && event.target.blur());
// A key that is let go elsewhere is never heard of.
addEventListener("blur", () => {
  walk.held = [];
  markHeld();
});
// A world that thinks for long is not a page that hangs.
setInterval(() => {
  if (link.entered) tellLink(link.busy && performance.now() - link.asked > 3000 ? "waiting for the world" : "connected", "open");
}, 500);
document.addEventListener("visibilitychange", () => !document.hidden && pump());
addEventListener("resize", () => byId("levels").hidden || sized(byId("grid")));

connect();
