// The reader's tumour outline: a mask at the slice's own resolution, drawn or painted.

const CLICK_DISTANCE = 0.8; // of a slice pixel: a shorter drag is a click, which sets a corner
const MAX_UNDO = 50;

export class Outline {
  constructor(width, height, changed) {
    Object.assign(this, { width, height, changed });
    this.load(null);
  }

  get open() { return this.points.length > 0; }

  load(encoded) {
    this.mask = new Uint8Array(this.width * this.height);
    if (encoded) this.mask.set(Uint8Array.from(atob(encoded), (sign) => sign.charCodeAt(0)));
    this.points = [];
    this.history = [];
    this.strokeBegan = null;
  }

  // Base64 of the mask's bytes; null where nothing is drawn.
  encode() {
    if (!this.mask.includes(1)) return null;
    let text = "";
    for (const value of this.mask) text += String.fromCharCode(value);
    return btoa(text);
  }

  begin(mask) { this.remember(); this.mask = mask.slice(); }

  remember() {
    this.history.push(this.mask.slice());
    if (this.history.length > MAX_UNDO) this.history.shift();
  }

  undo() {
    if (this.open) { this.points.pop(); this.changed(); return; }
    if (!this.history.length) return;
    this.mask = this.history.pop();
    this.changed();
  }

  clear() {
    this.points = [];
    if (this.mask.includes(1)) { this.remember(); this.mask = new Uint8Array(this.mask.length); }
    this.changed();
  }

  cancelOpen() { this.points = []; this.dragging = false; }

  // Contour: a drag draws it freehand and closes it; clicks set its corners.
  press(at) {
    this.dragging = false;
    this.pressedAt = at;
    this.pointsBefore = this.points.length;
    this.points.push(at);
  }

  drag(at) {
    if (!this.dragging && Math.hypot(at.x - this.pressedAt.x, at.y - this.pressedAt.y) < CLICK_DISTANCE) return;
    this.dragging = true;
    this.points.push(at);
  }

  release() {
    if (this.dragging) { this.dragging = false; this.close(); return; }
    const first = this.points[0];
    const last = this.points.at(-1);
    const closes = this.points.length > 3 && Math.hypot(first.x - last.x, first.y - last.y) < 1.5;
    if (closes) this.close();
  }

  close() {
    if (this.points.length > 2) {
      this.remember();
      fillPolygon(this.mask, this.width, this.height, this.points);
    }
    this.points = [];
    this.changed();
  }

  // Brush: paints or erases every pixel whose middle lies in the disc.
  paint(at, radius, adds, begins) {
    if (begins) { this.strokeBegan = this.mask.slice(); this.last = at; }
    const steps = Math.max(1, Math.ceil(Math.hypot(at.x - this.last.x, at.y - this.last.y) * 2));
    for (let step = 0; step <= steps; step += 1) {
      const x = this.last.x + (at.x - this.last.x) * step / steps;
      const y = this.last.y + (at.y - this.last.y) * step / steps;
      this.stamp(x, y, Math.max(radius, 0.71), Number(adds));
    }
    this.last = at;
  }

  stamp(x, y, radius, value) {
    for (let row = Math.floor(y - radius); row <= y + radius; row += 1) {
      for (let column = Math.floor(x - radius); column <= x + radius; column += 1) {
        const inside = row >= 0 && column >= 0 && row < this.height && column < this.width;
        if (inside && Math.hypot(column + 0.5 - x, row + 0.5 - y) <= radius) {
          this.mask[row * this.width + column] = value;
        }
      }
    }
  }

  endStroke() {
    if (!this.strokeBegan) return;
    this.history.push(this.strokeBegan);
    this.strokeBegan = null;
    this.changed();
  }

  // A second finger turned the stroke into a pinch.
  cancelStroke() {
    if (this.strokeBegan) this.mask = this.strokeBegan;
    this.strokeBegan = null;
    this.points.length = Math.min(this.points.length, this.pointsBefore ?? 0);
    this.dragging = false;
  }
}

// Set the pixels whose middle lies inside the polygon (even-odd rule).
function fillPolygon(mask, width, height, points) {
  for (let row = 0; row < height; row += 1) {
    const y = row + 0.5;
    const crossings = [];
    points.forEach((from, number) => {
      const to = points[(number + 1) % points.length];
      if ((from.y <= y) !== (to.y <= y)) {
        crossings.push(from.x + (y - from.y) * (to.x - from.x) / (to.y - from.y));
      }
    });
    crossings.sort((a, b) => a - b);
    for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
      const first = Math.max(0, Math.ceil(crossings[pair] - 0.5));
      const last = Math.min(width - 1, Math.ceil(crossings[pair + 1] - 0.5) - 1);
      for (let column = first; column <= last; column += 1) mask[row * width + column] = 1;
    }
  }
}
