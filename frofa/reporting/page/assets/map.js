// The map of the images, drawn on a canvas: colours, pictures that do not overlap, pointer and keyboard.
const canvas = byId("map-canvas");
if (canvas && data.map) drawMap();

function drawMap() {
  const [xs, ys] = data.map;
  const view = new View(xs, ys);
  const pen = canvas.getContext("2d");
  const card = byId("map-card");
  const controls = { colour: byId("map-colour"), one: byId("map-class"), pictures: byId("map-pictures") };
  const loaded = new Map();
  // An order without order, always the same: pictures are of all classes.
  const mixed = [...everyImage].sort((a, b) => ((a * 2654435761) % 2 ** 32) - ((b * 2654435761) % 2 ** 32));
  const RADIUS = count > 3000 ? 2.2 : 3.5;
  const PICTURE = 38;
  let current = null;
  let asked = false;

  const highlighted = () => numberOf(controls.one.value);
  const stands = (i) => highlighted() === null || data.truth[i] === highlighted();
  const visible = () => everyImage.filter(stands);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const isDark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");

  // Ten colours that most eyes tell apart, on a light and on a dark ground; of more classes, hues by the golden angle.
  const TEN = [
    ["#1f6fb4", "#c65a00", "#2a8540", "#c0282d", "#7a4fb0", "#80543f", "#c23e98", "#66707a", "#7d7a00", "#007f91"],
    ["#6db1f2", "#ff9b4a", "#6fd083", "#ff7f7a", "#b99bf0", "#c9a08c", "#f58fd3", "#aab4be", "#d3cf4a", "#52cfe0"],
  ];
  const classColour = (k) => {
    if (data.labels.length <= 10) return TEN[isDark() ? 1 : 0][k];
    const lightness = isDark() ? [68, 78, 60] : [42, 52, 34];
    return `hsl(${Math.round((k * 137.508 + 210) % 360)} 62% ${lightness[Math.floor(k / 8) % 3]}%)`;
  };
  const colours = {
    class: (i) => classColour(data.truth[i]),
    right: (i) => style(isRight(i) ? "--good" : "--bad"),
    sure: (i) => `hsl(${Math.round(20 + 190 * topShare(i))} 65% ${isDark() ? 64 : 40}%)`,
  };

  /** Draw soon, once, however often it is asked for. */
  function redraw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      draw();
    });
  }

  function draw() {
    const density = window.devicePixelRatio || 1;
    const box = canvas.getBoundingClientRect();
    if (!box.width) return;
    const [width, height] = [Math.round(box.width * density), Math.round(box.height * density)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    view.resize(box.width, box.height);
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, box.width, box.height);
    drawPoints();
    if (controls.pictures.checked) drawPictures(box);
    if (current !== null) drawRing(current);
    if (current !== null) placeCard(current);
  }

  /** Put the card beside its image, on the side that has room, and never outside of the map. */
  function placeCard(i) {
    const [x, y] = view.screen(i);
    const inside = (at, size, room) => Math.max(4, Math.min(at > room / 2 ? at - size - 12 : at + 12, room - size - 4));
    card.style.left = `${inside(x, card.offsetWidth, view.width)}px`;
    card.style.top = `${inside(y, card.offsetHeight, view.height)}px`;
  }

  function drawPoints() {
    const memory = new Map();
    const colour = colours[controls.colour.value];
    const keyOf = controls.colour.value === "class" ? (i) => data.truth[i] : controls.colour.value === "right" ? isRight : null;
    const colourOf = (i) => {
      if (!keyOf) return colour(i);
      const key = keyOf(i);
      if (!memory.has(key)) memory.set(key, colour(i));
      return memory.get(key);
    };
    const grey = style("--line");
    // Those that stand out are drawn last, and so are mistakes where they are red.
    const rank = (i) => (stands(i) ? (controls.colour.value === "right" && !isRight(i) ? 2 : 1) : 0);
    for (const wanted of [0, 1, 2]) {
      for (const i of everyImage) {
        if (rank(i) !== wanted) continue;
        const [x, y] = view.screen(i);
        if (x < -5 || y < -5 || x > view.width + 5 || y > view.height + 5) continue;
        pen.fillStyle = wanted ? colourOf(i) : grey;
        pen.beginPath();
        pen.arc(x, y, RADIUS, 0, 2 * Math.PI);
        pen.fill();
      }
    }
  }

  /** Pictures where they do not cover each other, at most so many that the map can still be read. */
  function drawPictures(box) {
    const step = PICTURE * 1.25;
    const taken = new Set();
    const colour = colours[controls.colour.value];
    let left = Math.floor((box.width * box.height) / (step * step * 3));
    for (const i of mixed) {
      if (!stands(i)) continue;
      const [x, y] = view.screen(i);
      if (x < PICTURE / 2 || y < PICTURE / 2 || x > box.width - PICTURE / 2 || y > box.height - PICTURE / 2) continue;
      const [column, row] = [Math.floor(x / step), Math.floor(y / step)];
      let near = false;
      for (let a = -1; a <= 1; a++) for (let b = -1; b <= 1; b++) near ||= taken.has(`${column + a} ${row + b}`);
      if (near || left <= 0) continue;
      const image = load(i);
      if (!image) continue;
      taken.add(`${column} ${row}`);
      left--;
      if (!image.complete || !image.naturalWidth) continue;
      const scale = PICTURE / Math.max(image.naturalWidth, image.naturalHeight);
      const [w, h] = [image.naturalWidth * scale, image.naturalHeight * scale];
      pen.imageSmoothingEnabled = !pictureOf(i).tiny;
      pen.drawImage(image, x - w / 2, y - h / 2, w, h);
      pen.strokeStyle = colour(i);
      pen.lineWidth = 2;
      pen.strokeRect(x - w / 2, y - h / 2, w, h);
    }
  }

  function load(i) {
    if (loaded.has(i)) return loaded.get(i);
    const found = pictureOf(i);
    let image = null;
    if (found) {
      image = new Image();
      image.addEventListener("load", redraw);
      image.src = found.uri;
    }
    loaded.set(i, image);
    return image;
  }

  function drawRing(i) {
    const [x, y] = view.screen(i);
    pen.strokeStyle = style("--text");
    pen.lineWidth = 2.5;
    pen.beginPath();
    pen.arc(x, y, RADIUS + 5, 0, 2 * Math.PI);
    pen.stroke();
  }

  /** Show the picture and outcome of an image beside its place; null hides the card. */
  function show(i, aloud = false) {
    if (i === current && !aloud) return;
    current = i;
    card.hidden = i === null;
    if (i !== null) {
      const said = element("span", { className: isRight(i) ? "good" : "bad" }, isRight(i) ? "✓ " : "✗ ");
      const lines = element("div", {}, said, named(label(data.predicted[i])), ` ${chance(topShare(i))}`);
      const truth = isRight(i) ? [] : [element("div", {}, "truth: ", named(label(data.truth[i])))];
      const name = element("div", { className: "small muted" }, named(data.names[i]));
      card.replaceChildren(picture(i), element("div", {}, lines, ...truth, name));
      if (aloud) byId("map-said").textContent = `${data.names[i]}: ${outcome(i)}`;
    }
    redraw();
  }

  function legend() {
    const list = byId("map-legend");
    const entry = (colour, text, dashed) => {
      const dot = element("span", { className: "dot" });
      dot.style.background = colour;
      return element("li", {}, dot, dashed ? text : named(text));
    };
    const kind = controls.colour.value;
    if (kind === "right") list.replaceChildren(entry(style("--good"), "right"), entry(style("--bad"), "mistaken"));
    else if (kind === "sure") {
      const shades = [0.2, 0.4, 0.6, 0.8, 1];
      const colour = (share) => `hsl(${Math.round(20 + 190 * share)} 65% ${isDark() ? 64 : 40}%)`;
      list.replaceChildren(...shades.map((share) => entry(colour(share), percent(share, 0))));
    } else {
      const some = data.labels.slice(0, 24).map((text, k) => entry(classColour(k), text));
      const rest = data.labels.length - some.length;
      if (rest > 0) some.push(element("li", { className: "muted" }, `and ${rest} more`));
      list.replaceChildren(...some);
    }
  }

  const pointers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const last = pointers.get(event.pointerId);
    if (!last) {
      show(view.nearest(x, y, 14, visible()));
      return;
    }
    const before = spread();
    pointers.set(event.pointerId, [x, y]);
    moved += Math.abs(x - last[0]) + Math.abs(y - last[1]);
    // Two fingers zoom, one moves.
    if (pointers.size === 2 && before) view.zoomBy(spread() / before, ...middle());
    else view.move(x - last[0], y - last[1]);
    redraw();
  });
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  };
  const middle = () => {
    const [a, b] = [...pointers.values()];
    return [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  };
  canvas.addEventListener("pointerup", (event) => {
    pointers.delete(event.pointerId);
    if (moved > 6) return;
    const found = view.nearest(...at(event), 18, visible());
    if (found !== null && (found === current || event.pointerType === "mouse")) openImage([found], 0);
    show(found);
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => {
    if (!pointers.size) show(null);
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      // The page scrolls on over the map, unless the map has been chosen or a key says that the map is meant.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      view.zoomBy(Math.exp(-event.deltaY / 400), ...at(event));
      redraw();
    },
    { passive: false },
  );

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const some = visible();
    if (ARROWS[event.key] && some.length) {
      const start = view.nearest(view.width / 2, view.height / 2, Infinity, some);
      const next = current === null ? start : view.next(current, ...ARROWS[event.key], some);
      if (next !== null) {
        view.bringIn(next);
        show(next, true);
      }
    } else if (event.key === "Enter" && current !== null) openImage([current], 0);
    else if (event.key === "+" || event.key === "=") view.zoomBy(1.4);
    else if (event.key === "-") view.zoomBy(1 / 1.4);
    else if (event.key === "0") view.whole();
    else if (event.key === "Escape" && current !== null) show(null);
    else return;
    event.preventDefault();
    redraw();
  });

  const zoom = (factor) => () => {
    view.zoomBy(factor);
    redraw();
  };
  byId("map-in").addEventListener("click", zoom(1.4));
  byId("map-out").addEventListener("click", zoom(1 / 1.4));
  byId("map-whole").addEventListener("click", () => {
    view.whole();
    redraw();
  });
  for (const control of Object.values(controls)) {
    control.addEventListener("change", () => {
      show(null);
      legend();
      redraw();
    });
  }
  document.addEventListener("themechange", () => {
    legend();
    redraw();
  });
  new ResizeObserver(redraw).observe(canvas);
  legend();
}
