/** Thumbnails as elements that are decoded before they are shown, so that the next images appear at once. */

const MOST = 160; // elements kept beside those on screen

export class Pictures {
  constructor(transport, session) {
    this.transport = transport;
    this.session = session;
    this.kept = new Map();
    this.size = (globalThis.devicePixelRatio ?? 1) > 1.5 ? 512 : 256;
  }

  /** The element of an image, the same one each time, and a promise for when it can be painted. */
  get(index) {
    const found = this.kept.get(index) ?? this.load(index);
    this.kept.delete(index);
    this.kept.set(index, found); // the latest stand last
    for (const [old, { element }] of this.kept) {
      if (this.kept.size <= MOST) break;
      if (!element.isConnected) this.kept.delete(old);
    }
    return found;
  }

  address(index) {
    return this.transport.thumbnail(index, this.size, this.session);
  }

  load(index) {
    const element = new Image();
    element.alt = ""; // the tile around it has the name
    element.draggable = false;
    const ready = this.address(index)
      .then((address) => {
        element.src = address;
        return element.decode();
      })
      .then(
        () => {
          // Small images are enlarged pixel by pixel: nothing is made up between them.
          element.classList.toggle("pixels", Math.max(element.naturalWidth, element.naturalHeight) <= 64);
        },
        () => {
          element.classList.add("failed");
          element.dispatchEvent(new Event("failed"));
          this.kept.delete(index); // asked for anew when it is next shown
        },
      );
    return { element, ready };
  }
}
