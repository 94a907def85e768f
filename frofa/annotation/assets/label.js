/** The labelling page in a browser's window. */

import { start } from "./label_app.js";
import { overHttp } from "./label_transport.js";

function ownStorage() {
  try {
    return window.localStorage;
  } catch {
    return null; // forbidden: decisions then live in the window alone
  }
}

start(document.getElementById("label"), overHttp(), {
  storage: ownStorage(),
  keys: document,
  ownPage: true,
  titled: (n) => (document.title = `${n} labelled · frofa label`),
});
