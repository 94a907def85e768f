/** How the page talks to what keeps the labels: HTTP here; a notebook's widget brings another of the same shape. */

/** The request was understood and will never be taken. */
export class Refused extends Error {}

/** Nobody answered, or the answer was that it cannot be done now. */
export class Away extends Error {}

const PATIENCE = 30000; // milliseconds for one answer
const NEVER = new Set([400, 404, 405, 409, 413, 415, 422]);

/**
 * `send(request)` gives the answer, or throws Refused or Away; `thumbnail(index, size, session)` and
 * `large(index, session)` give addresses for images.
 */
export function overHttp() {
  return {
    send: (request) => post(JSON.stringify(request)),
    thumbnail: async (index, size, session) =>
      `/thumb/${index}?size=${size}&v=${encodeURIComponent(session)}`,
    large: async (index, session) => `/image/${index}?v=${encodeURIComponent(session)}`,
  };
}

async function post(body) {
  let response, answer;
  try {
    response = await fetch("/api", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Frofa": "1" },
      body,
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    answer = await response.json();
  } catch {
    if (!response || response.ok) throw new Away("The server does not answer. Is frofa label still running?");
    answer = {};
  }
  if (response.ok) return answer;
  if (response.status === 401 || response.status === 403) {
    throw new Away("The server does not know this window. Open the address that frofa label printed.");
  }
  const text = answer.error ?? `The server answered ${response.status}.`;
  throw NEVER.has(response.status) ? new Refused(text) : new Away(text);
}
