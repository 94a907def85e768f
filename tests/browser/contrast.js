// Text of less contrast than 4.5 to 1 on what it stands on, by element, as WCAG 2.2 defines contrast.
() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, ground) => [0, 1, 2].map((i) => top[i] * top[3] + ground[i] * (1 - top[3])).concat([1]);
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((one) => (one / 255 <= 0.03928 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const groundOf = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.unshift(channels(getComputedStyle(one).backgroundColor));
    return layers.reduce((ground, layer) => over(layer, ground), [255, 255, 255, 1]);
  };
  const faint = {};
  for (const element of document.querySelectorAll("body *")) {
    const ownText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!ownText || !element.checkVisibility() || element.matches("script, style, option, :disabled")) continue;
    const ground = groundOf(element);
    const [dark, light] = [luminance(ground), luminance(over(channels(getComputedStyle(element).color), ground))].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) faint[`${element.tagName}.${element.className}: ${element.textContent.slice(0, 20)}`] = ratio;
  }
  return faint;
}
