// Draws a slice through one window and level, and turns pointers into window, zoom and strokes.

const AREA_SHARE = 0.94; // of the canvas that a slice fills at first
const MASK_COLOUR = "#ffb000";
const OUTLINE_COLOUR = "#4cc9f0";

export class Viewer {
  constructor(canvas, { width, height, most, outline, readout }) {
    Object.assign(this, { canvas, width, height, most, outline, readout });
    this.context = canvas.getContext("2d");
    this.plane = new OffscreenCanvas(width, height);
    this.tool = "window";
    this.brush = 2;
    this.smooth = true;
    this.maskShown = false;
    this.channel = 0;
    this.pixels = null;
    this.pointers = new Map();
    this.window = { width: most, level: most / 2 };
    this.view = { zoom: 1, x: 0, y: 0 };
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.up(event));
    }
    canvas.addEventListener("pointerleave", () => { this.cursor = null; this.draw(); });
  }

  show(pixels) {
    this.pixels = pixels;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.renderPlane();
    this.draw();
  }

  reset() {
    this.window = { width: this.most, level: this.most / 2 };
    this.view = { zoom: 1, x: 0, y: 0 };
    this.renderPlane();
    this.draw();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    this.draw();
  }

  // Values below the window are black, above it white (DICOM PS3.3 C.11.2.1.2, linear).
  renderPlane() {
    if (!this.pixels) return;
    const values = this.pixels.channels[this.channel];
    const image = new ImageData(this.width, this.height);
    const low = this.window.level - this.window.width / 2;
    const scale = 255 / this.window.width;
    for (let index = 0; index < values.length; index += 1) {
      const grey = Math.round((values[index] - low) * scale);
      image.data.fill(grey < 0 ? 0 : grey > 255 ? 255 : grey, 4 * index, 4 * index + 3);
      image.data[4 * index + 3] = 255;
    }
    this.plane.getContext("2d").putImageData(image, 0, 0);
  }

  // Canvas pixels per slice pixel, and where the slice's corner lies.
  geometry() {
    const { width, height } = this.canvas;
    const scale = AREA_SHARE * Math.min(width / this.width, height / this.height) * this.view.zoom;
    return {
      scale,
      left: (width - scale * this.width) / 2 + this.view.x,
      top: (height - scale * this.height) / 2 + this.view.y,
    };
  }

  toSlice(event) {
    const ratio = devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    const { scale, left, top } = this.geometry();
    return {
      x: ((event.clientX - box.left) * ratio - left) / scale,
      y: ((event.clientY - box.top) * ratio - top) / scale,
    };
  }

  draw() {
    const { context, canvas } = this;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.pixels) return;
    const { scale, left, top } = this.geometry();
    context.imageSmoothingEnabled = this.smooth;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.plane, left, top, scale * this.width, scale * this.height);
    context.save();
    context.translate(left, top);
    context.scale(scale, scale);
    context.lineWidth = 2 * (devicePixelRatio || 1) / scale;
    if (this.maskShown) this.strokeMask(this.pixels.mask, MASK_COLOUR);
    this.strokeMask(this.outline.mask, OUTLINE_COLOUR, 0.15);
    this.strokeOpen();
    context.restore();
    const { width, level } = this.window;
    const tool = ["brush", "erase"].includes(this.tool) ? `  ${this.tool} ${2 * this.brush} px` : "";
    this.readout.textContent =
      `W ${Math.round(width)}  L ${Math.round(level)}  ${Math.round(100 * this.view.zoom)} %${tool}`;
  }

  // The border between mask and background, along the edges of pixels.
  strokeMask(mask, colour, fill = 0) {
    const { width, height, context } = this;
    const path = new Path2D();
    const area = new Path2D();
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        if (!mask[y * width + x]) continue;
        area.rect(x, y, 1, 1);
        if (y === 0 || !mask[(y - 1) * width + x]) { path.moveTo(x, y); path.lineTo(x + 1, y); }
        if (y === height - 1 || !mask[(y + 1) * width + x]) { path.moveTo(x, y + 1); path.lineTo(x + 1, y + 1); }
        if (x === 0 || !mask[y * width + x - 1]) { path.moveTo(x, y); path.lineTo(x, y + 1); }
        if (x === width - 1 || !mask[y * width + x + 1]) { path.moveTo(x + 1, y); path.lineTo(x + 1, y + 1); }
      }
    }
    if (fill) {
      context.globalAlpha = fill;
      context.fillStyle = colour;
      context.fill(area);
      context.globalAlpha = 1;
    }
    context.strokeStyle = colour;
    context.stroke(path);
  }

  strokeOpen() {
    const { context } = this;
    context.strokeStyle = OUTLINE_COLOUR;
    const points = this.outline.points;
    if (points.length) {
      context.beginPath();
      points.forEach(({ x, y }) => context.lineTo(x, y));
      if (this.cursor) context.lineTo(this.cursor.x, this.cursor.y);
      context.stroke();
    }
    if (this.cursor && ["brush", "erase"].includes(this.tool)) {
      context.beginPath();
      context.arc(this.cursor.x, this.cursor.y, this.brush, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  // What a pointer does: left as the tool says, right zooms (or sets the window while drawing),
  // middle or Shift moves.
  gesture(event) {
    if (event.button === 1 || event.shiftKey) return "pan";
    if (event.button === 2) return this.tool === "window" ? "zoom" : "window";
    return this.tool;
  }

  down(event) {
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this.pointers.size === 2) {
      this.outline.cancelStroke();
      this.doing = "pinch";
      return;
    }
    this.doing = this.gesture(event);
    const at = this.toSlice(event);
    if (this.doing === "outline") this.outline.press(at);
    if (["brush", "erase"].includes(this.doing)) this.outline.paint(at, this.brush, this.doing === "brush", true);
    this.draw();
  }

  move(event) {
    const at = this.toSlice(event);
    this.cursor = at;
    const before = this.pointers.get(event.pointerId);
    if (before) {
      const ratio = devicePixelRatio || 1;
      const dx = event.clientX - before.x;
      const dy = event.clientY - before.y;
      if (this.doing === "pinch") this.pinch(event);
      else if (this.doing === "pan") { this.view.x += dx * ratio; this.view.y += dy * ratio; }
      else if (this.doing === "zoom") this.view.zoom = clamp(this.view.zoom * Math.exp(-dy / 200), 0.5, 20);
      else if (this.doing === "window") this.dragWindow(dx, dy);
      else if (this.doing === "outline") this.outline.drag(at);
      else this.outline.paint(at, this.brush, this.doing === "brush", false);
      this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    }
    this.draw();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (this.doing === "outline") this.outline.release();
    if (["brush", "erase"].includes(this.doing)) this.outline.endStroke();
    if (!this.pointers.size) this.doing = null;
    this.draw();
  }

  // Across: width; down: level, darker, as in other viewers.
  dragWindow(dx, dy) {
    const step = this.most / 512;
    this.window.width = clamp(this.window.width + dx * step, 16, 2 * this.most);
    this.window.level = clamp(this.window.level + dy * step, 0, this.most);
    this.renderPlane();
  }

  pinch(event) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    const before = this.pointers.get(event.pointerId);
    if (!other) return;
    const ratio = devicePixelRatio || 1;
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    const now = { x: event.clientX, y: event.clientY };
    this.view.zoom = clamp(this.view.zoom * distance(now) / Math.max(distance(before), 1), 0.5, 20);
    this.view.x += (now.x - before.x) * ratio / 2;
    this.view.y += (now.y - before.y) * ratio / 2;
  }

  wheel(event) {
    event.preventDefault();
    const at = this.toSlice(event);
    this.zoomBy(Math.exp(-event.deltaY / 400), at);
  }

  // Zoom about a point of the slice, by default its middle.
  zoomBy(factor, at = { x: this.width / 2, y: this.height / 2 }) {
    const before = this.geometry();
    this.view.zoom = clamp(this.view.zoom * factor, 0.5, 20);
    const after = this.geometry();
    this.view.x += before.left + at.x * before.scale - (after.left + at.x * after.scale);
    this.view.y += before.top + at.y * before.scale - (after.top + at.y * after.scale);
    this.draw();
  }

  resizeBrush(by) { this.brush = clamp(this.brush + by / 2, 0.5, 16); this.draw(); }
  toggleSmooth() { this.smooth = !this.smooth; this.draw(); }

  nextChannel(names) {
    this.channel = (this.channel + 1) % names.length;
    this.renderPlane();
    this.draw();
    this.readout.textContent += `  ${names[this.channel]}`;
  }
}

function clamp(value, low, high) { return Math.min(Math.max(value, low), high); }
