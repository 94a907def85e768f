// Geometry of the map: which part of it is seen, and which image is where. Places are whole numbers up to 10,000.
const LARGEST_ZOOM = 60;
const MARGIN = 24;

/** The part of a map that a box of some width and height shows. */
class View {
  constructor(xs, ys) {
    [this.xs, this.ys] = [xs, ys];
    [this.width, this.height] = [1, 1];
    this.bounds = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.whole();
  }

  resize(width, height) {
    [this.width, this.height] = [width, height];
  }

  whole() {
    const [left, right, top, bottom] = this.bounds;
    this.zoom = 1;
    this.centre = [(left + right) / 2, (top + bottom) / 2];
  }

  /** Pixels a unit of the map. */
  get scale() {
    const [left, right, top, bottom] = this.bounds;
    const across = (this.width - 2 * MARGIN) / Math.max(right - left, 1);
    const down = (this.height - 2 * MARGIN) / Math.max(bottom - top, 1);
    return Math.min(across, down) * this.zoom;
  }

  screen(i) {
    const scale = this.scale;
    return [
      this.width / 2 + (this.xs[i] - this.centre[0]) * scale,
      this.height / 2 + (this.ys[i] - this.centre[1]) * scale,
    ];
  }

  move(right, down) {
    this.centre = [this.centre[0] - right / this.scale, this.centre[1] - down / this.scale];
  }

  /** Zoom by a factor; what is at a place of the screen stays there. */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const before = this.scale;
    this.zoom = Math.min(LARGEST_ZOOM, Math.max(0.5, this.zoom * factor));
    const shift = 1 / before - 1 / this.scale;
    this.centre = [this.centre[0] + (x - this.width / 2) * shift, this.centre[1] + (y - this.height / 2) * shift];
  }

  /** The image nearest to a place of the screen, within some pixels; null if there is none. */
  nearest(x, y, within, among) {
    let [found, least] = [null, within * within];
    for (const i of among) {
      const [px, py] = this.screen(i);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance <= least) [found, least] = [i, distance];
    }
    return found;
  }

  /** The image that lies next in a direction (right, down), nearer and straighter ones first; null if there is none. */
  next(from, right, down, among) {
    const [x, y] = this.screen(from);
    let [found, least] = [null, Infinity];
    for (const i of among) {
      const [px, py] = this.screen(i);
      const ahead = (px - x) * right + (py - y) * down;
      const aside = Math.abs((px - x) * down + (py - y) * right);
      if (i === from || ahead <= 0 || aside > 2 * ahead) continue;
      const cost = ahead + 2 * aside;
      if (cost < least) [found, least] = [i, cost];
    }
    return found;
  }

  /** Move the map so that an image is inside. */
  bringIn(i) {
    const [x, y] = this.screen(i);
    const outside = (at, size) => Math.min(0, at - MARGIN) + Math.max(0, at - size + MARGIN);
    this.move(-outside(x, this.width), -outside(y, this.height));
  }
}
