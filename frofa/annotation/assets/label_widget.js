/** The labelling page in a notebook: in a root of its own, so that neither changes how the other looks. */

import { start } from "./label_app.js";
import { Away, Refused } from "./label_transport.js";

const KERNEL_PATIENCE = 30000; // milliseconds: a cell that runs keeps the kernel from answering

function addressOf(bytes) {
  return URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
}

/** Requests as messages to the kernel; answers have the number of their question, images come as bytes. */
function overKernel(model) {
  const mine = Math.random().toString(36).slice(2); // other views of the same widget hear the same answers
  const waiting = new Map();
  const addresses = new Map();
  let n = 0;
  const heard = (answer, buffers) => {
    waiting.get(answer.id)?.(answer, buffers);
    waiting.delete(answer.id);
  };
  model.on("msg:custom", heard);

  const ask = (content) =>
    new Promise((resolve, reject) => {
      const id = `${mine}-${++n}`;
      const late = setTimeout(() => {
        waiting.delete(id);
        reject(new Away("The kernel is busy or gone."));
      }, KERNEL_PATIENCE);
      waiting.set(id, (answer, buffers) => {
        clearTimeout(late);
        if (answer.refused) reject(new Refused(answer.refused));
        else if (answer.failed) reject(new Away(answer.failed));
        else resolve(buffers.length ? addressOf(buffers[0]) : answer.answer);
      });
      model.send({ id, ...content });
    });

  const picture = (index, large, session) => {
    const key = `${session} ${index} ${large}`;
    if (!addresses.has(key)) addresses.set(key, ask({ picture: index, large }));
    return addresses.get(key);
  };
  return {
    send: (request) => ask({ request }),
    thumbnail: (index, size, session) => picture(index, false, session),
    large: (index, session) => picture(index, true, session),
    close() {
      model.off("msg:custom", heard);
      addresses.forEach((address) => address.then(URL.revokeObjectURL, () => {}));
    },
  };
}

/** Light or dark as the notebook is, where it says so; else as the system has it. */
function notebookTheme() {
  const { body, documentElement } = document;
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "true" ? "light" : "dark";
  if (body.dataset.vscodeThemeKind) return /dark|black/.test(body.dataset.vscodeThemeKind) ? "dark" : "light";
  return documentElement.getAttribute("theme"); // Colab
}

function render({ model, el }) {
  const host = document.createElement("div");
  // Jupyter has commands on letters, too.
  host.setAttribute("data-lm-suppress-shortcuts", "true");
  const theme = notebookTheme();
  if (theme) host.dataset.theme = theme;
  el.append(host);
  const shadow = host.attachShadow({ mode: "open" });
  const style = document.createElement("style");
  style.textContent = model.get("styles");
  const root = document.createElement("div");
  shadow.append(style, root);
  const transport = overKernel(model);
  const end = start(root, transport);
  return () => {
    end();
    transport.close();
  };
}

export default { render };
