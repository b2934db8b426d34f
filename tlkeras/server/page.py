"""The page at `/`: drop an image, read the answer. One file, no request to anywhere but this server's :predict.

What is known of the models is put into the page as JSON and shown by `textContent` alone, so that no label or name
can become markup; the policy that goes with the page allows its own script and style by their hashes, and nothing
else.
"""

import base64
import hashlib
import json
import math
from typing import Any

from tlkeras.server.models import Model
from tlkeras.server.protocol import DEFAULT_SIGNATURE, Signature
from tlkeras.server.tensors import TensorInfo


def render(models: dict[str, Model]) -> tuple[str, str]:
    """Returns the HTML and its Content-Security-Policy."""
    facts = json.dumps([_facts(name, model) for name, model in models.items()]).replace("<", "\\u003c")
    title = ", ".join(models) if len(models) < 4 else f"{len(models)} models"
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    html = HTML.format(title=escaped, style=STYLE, script=SCRIPT, facts=facts)
    policy = (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; connect-src 'self'; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(name: str, model: Model) -> dict[str, Any]:
    version = model.latest
    # The operator that fills the tables is listed as a signature too; it takes nothing and cannot be called.
    called = [key for key, signature in version.signatures.items() if signature.inputs]
    called.sort(key=lambda key: key != DEFAULT_SIGNATURE)
    chosen = called[0] if called else DEFAULT_SIGNATURE
    signature = version.signatures.get(chosen, Signature({}, {}))
    body = {"instances": [_sample(signature)]}
    return {
        "name": name,
        "version": str(version.number),
        "image": _takes_image(signature),
        "sound": "audio" in next(iter(signature.inputs), ""),
        "body": json.dumps(body if chosen == DEFAULT_SIGNATURE else {"signature_name": chosen, **body}),
        "signatures": {
            key: {
                "takes": _shapes(version.signatures[key].inputs),
                "gives": _shapes(version.signatures[key].outputs),
            }
            for key in called
        },
        "contract": model.contract,
    }


def _takes_image(signature: Signature) -> bool:
    """One string input that is called image or bytes, a file; a text input is one string too, and called neither."""
    names = list(signature.inputs)
    if len(names) != 1 or signature.inputs[names[0]].dtype != "DT_STRING":
        return False
    return "image" in names[0] or names[0].endswith("_bytes")


def _shapes(infos: dict[str, TensorInfo]) -> dict[str, str]:
    def text(info: TensorInfo) -> str:
        if info.shape is None:
            return f"{info.kind}, any shape"
        return f"{info.kind} [{', '.join('n' if size < 0 else str(size) for size in info.shape)}]"

    return {name: text(info) for name, info in infos.items()}


def _sample(signature: Signature) -> Any:
    values = {name: _zeros(info) for name, info in signature.inputs.items()}
    return values if len(values) > 1 else next(iter(values.values()), 0)


def _zeros(info: TensorInfo) -> Any:
    value: Any = {"string": "text", "bool": False, "float": 0.0, "double": 0.0}.get(info.kind, 0)
    sizes = [max(size, 1) for size in (info.shape or (1,))[1:]]
    if math.prod(sizes) > 64:  # pixels: nobody edits those by hand
        return []
    for size in reversed(sizes):
        value = [value] * size
    return value


HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
<main>
<header><h1 id="name"></h1><p id="version"></p>
<label id="which" hidden>Model <select id="models"></select></label></header>
<section id="images" hidden>
<label id="drop"><input type="file" id="file" accept="image/*"><img id="preview" alt="" hidden>
<span id="hint"><b>Drop <span id="what">an image</span> here</b>, paste one, or <u>choose a file</u></span></label>
</section>
<section id="texts" hidden>
<label for="body">Request</label><textarea id="body" rows="6" spellcheck="false"></textarea>
<button id="send" type="button">Predict</button>
</section>
<section id="answer" aria-live="polite"></section>
<section id="about"></section>
<noscript>
<p>This page needs JavaScript. The server answers at <code>/v1/models/NAME:predict</code> all the same.</p>
</noscript>
</main>
<script type="application/json" id="facts">{facts}</script>
<script>{script}</script>
</html>
"""

STYLE = """
:root{color-scheme:light dark;--ground:#fbfaf8;--sheet:#fff;--ink:#1d1f21;--soft:#62676c;--line:#dcdad5;--edge:#a9a59d;
--mark:#1f6f5c;--bar:#cfe5dd;--bad:#a3261f}
@media(prefers-color-scheme:dark){:root{--ground:#16181a;--sheet:#1e2124;--ink:#e7e6e3;--soft:#9ba1a6;
--line:#34393d;--edge:#666d73;--mark:#6fc3ab;--bar:#234a40;--bad:#ff8f86}}
*{box-sizing:border-box}[hidden]{display:none!important}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:44rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
header{display:flex;flex-wrap:wrap;align-items:baseline;gap:0 .75rem;margin-bottom:1.25rem}
h1{font-size:1.6rem;font-weight:600;margin:0;overflow-wrap:anywhere}
h2{font-size:1rem;font-weight:600;margin:2.25rem 0 .5rem}
header p,.soft{color:var(--soft);margin:0}header label{margin-left:auto;color:var(--soft)}
select,textarea,button{font:inherit;color:inherit;background:var(--sheet);border:1px solid var(--line);
border-radius:6px}
select{padding:.2rem .4rem}
#drop{display:grid;place-items:center;gap:.75rem;min-height:14rem;padding:1.25rem;text-align:center;cursor:pointer;
background:var(--sheet);border:1.5px dashed var(--edge);border-radius:10px;color:var(--soft)}
#drop b{color:var(--ink);font-weight:600}#drop:hover,#drop.over{border-color:var(--mark)}
#drop:focus-within,select:focus-visible,textarea:focus-visible,button:focus-visible,summary:focus-visible{
outline:2px solid var(--mark);outline-offset:2px}
#file{position:absolute;opacity:0;width:1px;height:1px}
#preview{max-width:100%;max-height:20rem;border-radius:6px}
#texts label{display:block;color:var(--soft);margin-bottom:.25rem}
textarea{width:100%;padding:.6rem .75rem;font:14px/1.5 ui-monospace,monospace;resize:vertical}
button{margin-top:.5rem;padding:.4rem 1.1rem;background:var(--mark);border-color:var(--mark);color:var(--ground);
cursor:pointer}
#answer{margin-top:1.5rem;min-height:1.5rem}
.label{font-size:1.6rem;font-weight:600;line-height:1.25;overflow-wrap:anywhere}
.label small{font-size:1rem;font-weight:400;color:var(--soft);margin-left:.6rem}
.bad{color:var(--bad);overflow-wrap:anywhere}
#answer .soft{margin-top:.5rem}
ol{list-style:none;margin:1rem 0 0;padding:0}
li{position:relative;display:flex;justify-content:space-between;gap:1rem;margin:.3rem 0;padding:.25rem .6rem;
border-radius:5px;overflow:hidden;background:var(--sheet)}
li i{position:absolute;inset:0 auto 0 0;background:var(--bar)}
li span{position:relative;overflow-wrap:anywhere}li span:last-child{font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:minmax(6rem,auto) 1fr;gap:.25rem 1.25rem;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:.5rem 0 0;padding:.75rem 1rem;overflow:auto;max-height:24rem;background:var(--sheet);
border:1px solid var(--line);border-radius:6px;font:13px/1.5 ui-monospace,monospace}
summary{cursor:pointer;color:var(--soft);margin-top:1rem;width:fit-content}
"""

SCRIPT = r"""
'use strict';
const $ = id => document.getElementById(id), models = JSON.parse($('facts').textContent);
let model, asked = 0;
const make = (tag, text, ...children) => {
  const e = document.createElement(tag);
  if (text !== undefined && text !== null) e.textContent = text;
  e.append(...children); return e;
};
const percent = x => typeof x === 'number' ? (100 * x).toFixed(1) + ' %' : String(x);
const endpoint = () => '/v1/models/' + encodeURIComponent(model.name) + ':predict';

function show(chosen) {
  model = chosen; ++asked;
  $('name').textContent = model.name; $('version').textContent = 'version ' + model.version;
  $('images').hidden = !model.image; $('texts').hidden = model.image;
  $('what').textContent = model.sound ? 'a WAV file' : 'an image'; $('file').accept = model.sound ? 'audio/*' : 'image/*';
  $('preview').hidden = true; $('hint').hidden = false; $('file').value = '';
  $('body').value = model.body; $('answer').replaceChildren();
  about();
}
function about() {
  const parts = [], contract = model.contract;
  if (contract) {
    const list = make('dl');
    for (const [key, value] of Object.entries(contract)) {
      const plain = Array.isArray(value) ? value.every(v => typeof v !== 'object') : typeof value !== 'object';
      if (!plain || value === null || key === 'name') continue;
      const text = Array.isArray(value) && value.length > 4 ? value.length + ': ' + value.join(', ') : String(value);
      list.append(make('dt', key.replaceAll('_', ' ')), make('dd', text));
    }
    parts.push(make('h2', 'Contract'), list, make('details', null, make('summary', 'contract.json'),
      make('pre', JSON.stringify(contract, null, 2))));
  }
  parts.push(make('h2', 'Signatures'));
  for (const [key, {takes, gives}] of Object.entries(model.signatures)) {
    const lines = x => Object.entries(x).map(([name, shape]) => name + '  ' + shape).join('\n');
    parts.push(make('pre', key + '\n  takes  ' + lines(takes).replaceAll('\n', '\n         ') +
      '\n  gives  ' + lines(gives).replaceAll('\n', '\n         ')));
  }
  const where = location.origin + endpoint();
  parts.push(make('h2', 'From a program'), make('pre', model.image
    ? "(printf '{\"instances\":[{\"b64\":\"'; base64 " + (model.sound ? 'sound.wav' : 'photo.jpg') + " | tr -d '\\n'; printf '\"}]}') |\n  curl -d @- " + where
    : "curl -d '" + model.body + "' " + where));
  for (const block of parts) if (block.tagName === 'PRE') block.tabIndex = 0;
  $('about').replaceChildren(...parts);
}
async function predict(body) {
  const turn = ++asked, began = performance.now();
  $('answer').replaceChildren(make('p', 'Asking the model'));
  let shown;
  try {
    const response = await fetch(endpoint(), {method: 'POST', body});
    const text = await response.text(), took = Math.round(performance.now() - began);
    // NaN and Infinity are words of this protocol, but not of JSON.
    const words = /"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g;
    const answer = JSON.parse(text.replace(words, x => x[0] === '"' ? x : 'null'));
    const told = answer.error?.replace(/^Failed to process element: 0 of .*? Error: \w+: /, '');
    shown = response.ok ? result(answer.predictions ?? answer.outputs, took) : [bad(told)];
  } catch (fault) { shown = [bad('The server does not answer: ' + fault.message)]; }
  if (turn === asked) $('answer').replaceChildren(...shown);
}
const bad = text => { const p = make('p', text); p.className = 'bad'; p.setAttribute('role', 'alert'); return p; };
function result(predictions, took) {
  const first = Array.isArray(predictions) ? predictions[0] : null, note = make('p', 'in ' + took + ' ms');
  note.className = 'soft';
  if (model.sound && typeof first?.text === 'string') {
    const said = make('div', first.text || 'nothing is said'); said.className = 'label';
    return [said, note];
  }
  if (!model.image || !first || first.label === undefined)
    return [make('pre', JSON.stringify(predictions, null, 2)), note];
  const label = make('div', first.label, make('small', percent(first.score))); label.className = 'label';
  if (!Array.isArray(first.classes) || !Array.isArray(first.scores)) return [label, note];
  const rows = first.classes.map((name, i) => [name, first.scores[i]]).sort((a, b) => b[1] - a[1]).slice(0, 10);
  const list = make('ol');
  for (const [name, score] of rows) {
    const bar = make('i'); bar.style.width = 100 * Math.max(0, Math.min(1, score)) + '%';
    list.append(make('li', null, bar, make('span', name), make('span', percent(score))));
  }
  return [label, list, note];
}
function read(file) {
  if (!file || !model.image) return;
  const reader = new FileReader();
  reader.onload = () => {
    const image = $('preview'); URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file); image.alt = 'The image that was sent: ' + file.name;
    image.hidden = false; image.onerror = () => { image.hidden = true; $('hint').hidden = false; };
    $('hint').hidden = true;
    predict(JSON.stringify({instances: [{b64: reader.result.split(',')[1] || ''}]}));
  };
  reader.readAsDataURL(file);
}
for (const [i, one] of models.entries()) { const o = make('option', one.name); o.value = i; $('models').append(o); }
$('which').hidden = models.length < 2;
$('models').onchange = () => show(models[$('models').value]);
$('file').onchange = () => read($('file').files[0]);
$('send').onclick = () => predict($('body').value);
for (const event of ['dragover', 'dragleave', 'drop']) document.addEventListener(event, e => {
  e.preventDefault(); $('drop').classList.toggle('over', event === 'dragover');
  if (event === 'drop') read(e.dataTransfer.files[0]);
});
document.addEventListener('paste', e => read(e.clipboardData.files[0]));
show(models[0]);
"""
