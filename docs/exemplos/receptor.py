"""Um receptor de eventos: confere a assinatura e anota o que mudou. Rode com WEBHOOK_SECRET no ambiente.

python docs/exemplos/receptor.py 9000    # e, no worker: WEBHOOK_URL=http://localhost:9000/
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time

CHAVES = [base64.b64decode(um.removeprefix("whsec_")) for um in os.environ["WEBHOOK_SECRET"].replace(",", " ").split()]
VISTOS = set()  # em produção: na base, na mesma transação do que o evento faz


class Receptor(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        corpo = self.rfile.read(int(self.headers["content-length"]))
        ident, quando = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        certas = [hmac.new(chave, f"{ident}.{quando}.".encode() + corpo, hashlib.sha256).digest() for chave in CHAVES]
        dadas = [base64.b64decode(um[3:]) for um in self.headers["webhook-signature"].split() if um.startswith("v1,")]
        confere = any(hmac.compare_digest(certa, dada) for certa in certas for dada in dadas)
        recente = abs(time.time() - int(quando)) < 300
        if confere and recente and ident not in VISTOS:
            evento = json.loads(corpo)
            for um in evento["data"].get("appointments", []):
                print(evento["type"], um["id"], ", ".join(um["fields"]), flush=True)  # aqui: leia o agendamento e aja
            VISTOS.add(ident)
        self.send_response(204 if confere and recente else 401)
        self.end_headers()


if __name__ == "__main__":
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Receptor).serve_forever()
