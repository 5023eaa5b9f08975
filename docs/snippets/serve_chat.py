"""transformers serve: chat completions of a server that was started by `transformers serve you/model`."""

import json
import urllib.request

messages = [{"role": "user", "content": "Which place is Frida Bastino a native of?"}]
body = json.dumps({"model": "you/model", "messages": messages}).encode()
url, headers = "http://localhost:8123/v1/chat/completions", {"Content-Type": "application/json"}
with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
    answer = json.load(reply)["choices"][0]["message"]["content"]
