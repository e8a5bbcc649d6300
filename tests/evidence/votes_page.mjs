// SPDX-License-Identifier: Apache-2.0
// Runs a page of bench/evidence/votes.py as a browser would and votes on it: node votes_page.mjs PAGE [CSV]
// CSV: where to leave the votes. Exit code 77 where there is no jsdom.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";

let jsdom;
try {
  // where the caller stands, or NODE_PATH
  jsdom = createRequire(process.cwd() + "/")("jsdom");
} catch {
  console.log("skipped: no jsdom here (Debian: node-jsdom, NODE_PATH=/usr/share/nodejs)");
  process.exit(77);
}
const [page, out] = process.argv.slice(2);
const html = readFileSync(page, "utf8");

// storage: what an earlier visit left. Returns the window and the files that were saved.
function visit(storage) {
  const saved = [], errors = [];
  const console_ = new jsdom.VirtualConsole();
  console_.on("jsdomError", (error) => errors.push(error));
  const { window } = new jsdom.JSDOM(html, {
    url: "http://localhost/", runScripts: "dangerously", virtualConsole: console_,
    beforeParse(w) {
      for (const [k, v] of Object.entries(storage)) w.localStorage.setItem(k, v);
      if (!w.crypto?.getRandomValues) Object.defineProperty(w, "crypto", { value: webcrypto });
      w.HTMLMediaElement.prototype.play = () => Promise.resolve();
      w.URL.createObjectURL = (blob) => { saved.push(blob); return "blob:" + saved.length; };
      w.HTMLAnchorElement.prototype.click = function () { saved.name = this.download; };
      w.confirm = () => true;
    },
  });
  assert.deepEqual(errors, []);
  return { window, saved };
}
const text = (window, blob) => new Promise((done) => {
  const reader = new window.FileReader();
  reader.onload = () => done(reader.result);
  reader.readAsText(blob);
});
const press = (window, key) => window.document.dispatchEvent(new window.KeyboardEvent("keydown", { key, bubbles: true }));
const storage_of = (window) => Object.fromEntries(Object.keys(window.localStorage).map((k) => [k, window.localStorage.getItem(k)]));

const first = visit({});
const doc = first.window.document;
const data = JSON.parse(doc.getElementById("data").textContent);
assert.ok(data.pairs.length > 1);
assert.equal(doc.getElementById("caption").textContent, data.pairs[0].caption);
assert.equal(doc.querySelectorAll("fieldset").length, 4);
assert.equal(first.saved[0].type, "video/mp4");
for (const side of ["left", "right"]) assert.match(doc.getElementById(side).src, /^blob:/);
assert.ok(!doc.body.innerHTML.includes(atob(data.pairs[0].left_name)), "a model's name can be read");

// the first pair by keys, one answer taken back
for (const key of ["1", "2", "3", "4"]) press(first.window, key);
press(first.window, "ArrowUp");
press(first.window, "2");
assert.deepEqual([...doc.querySelectorAll('button[aria-pressed="true"]')].map((b) => b.dataset.answer),
                 ["left", "right", "right", "both bad"]);
press(first.window, "ArrowRight");
assert.equal(doc.getElementById("caption").textContent, data.pairs[1].caption);
assert.match(doc.getElementById("where").textContent, /^Pair 2 of \d+; 1 answered/);
// by pointer
doc.querySelector('button[data-question="overall"][data-answer="both good"]').click();

// closed and opened again: goes on where it was, and saves what was said before
const again = visit(storage_of(first.window));
const doc2 = again.window.document;
assert.match(doc2.getElementById("where").textContent, /^Pair 2 of \d+; 1 answered/);
doc2.getElementById("export").click();
assert.match(again.saved.name, /^votes-[0-9a-f]{12}-[0-9a-f]{12}\.csv$/);
const csv = await text(again.window, again.saved.at(-1));
const lines = csv.trimEnd().split("\n");
assert.equal(lines.length, data.pairs.length + 1);
assert.match(lines[1], new RegExp(`^${data.page},[0-9a-f]{12},${data.pairs[0].pair},.*,left,right,right,both bad$`));
assert.match(lines[2], /,,,,both good$/);
assert.ok(lines[1].includes(atob(data.pairs[0].left_name).replaceAll('"', '""')));
if (out) writeFileSync(out, csv);

doc2.getElementById("anew").click();
assert.match(doc2.getElementById("where").textContent, /^Pair 1 of \d+; 0 answered/);
console.log(`${data.pairs.length} pairs, ${lines.length - 1} rows: right`);
process.exit(0);
