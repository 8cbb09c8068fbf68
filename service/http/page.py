"""The page at /docs: the OpenAPI document as HTML, and a form for /predict. It loads nothing from another host."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem }
h3 { margin: 1.5rem 0 0 }
h3 span { display: inline-block; min-width: 3.5rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #8886; padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
code, pre, textarea { font: 14px/1.4 ui-monospace, monospace }
textarea { box-sizing: border-box; width: 100%; padding: .5rem }
button { font: inherit; padding: .25rem 1.5rem; margin: .5rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid #8886; padding-left: 1rem }
"""
SCRIPT = """
const form = document.querySelector("form"), answer = document.querySelector("#answer");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.textContent = "…";
  try {
    const response = await fetch("predict", {
      method: "POST", headers: {"Content-Type": "application/json"}, body: form.elements.body.value,
    });
    const text = await response.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is shown as it came */ }
    answer.textContent = `${response.status} ${response.statusText}\\n${shown}`;
  } catch (error) {
    answer.textContent = `No answer: ${error.message}`;
  }
});
"""


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# The browser runs this script and no other, and connects to this server only.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src {_hashed(SCRIPT)}; style-src {_hashed(STYLE)}; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Limit(NamedTuple):
    """A setting, as text."""

    variable: str
    value: str
    default: str
    meaning: str


def render_page(document: dict[str, Any], limits: Sequence[Limit]) -> str:
    """The page of an OpenAPI document and the limits of the server."""
    info = document["info"]
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    example = json.dumps(content["schema"]["example"], ensure_ascii=False)
    operations = "".join(
        _operation(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    title = escape(info["title"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>Every response has an <code>x-request-id</code>: the trace's id if the request has a <code>traceparent</code>.
The same as a document for programs: <a href="./openapi.json">openapi.json</a>.</p>
<h2>Ask</h2>
<form>
<label for="body"><code>POST /predict</code>, one row or a list of rows</label>
<textarea id="body" name="body" rows="5" spellcheck="false">{escape(example)}</textarea>
<button>Predict</button>
</form>
<pre id="answer" aria-live="polite"></pre>
<h2>Paths</h2>
{operations}
<h2>Limits</h2>
<p>Each is a variable of the server's environment.</p>
{_table(("variable", "here", "default", "meaning"), limits)}
<script>{SCRIPT}</script>
</body>
</html>
"""


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    responses = [(status, response["description"]) for status, response in operation["responses"].items()]
    return (
        f"<h3><span>{escape(method)}</span> <code>{escape(path)}</code></h3>\n"
        f"<p>{escape(operation['description'])}</p>\n{_table(('status', 'means'), responses)}\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f"<table>\n<tr>{titles}</tr>\n{lines}</table>"
