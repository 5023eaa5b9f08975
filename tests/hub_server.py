"""The Hub on a loopback port: the part of its protocol that huggingface_hub and transformers use.

Written after the requests of huggingface_hub 2.4 (`hf_api.py`, `_commit_api.py`, `lfs.py`, `file_download.py`). Large
files are stored at another host, as on the Hub: by signed addresses, to which no token may be sent. Files do not go
through Xet: clients set `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import huggingface_hub.hf_api
import pytest
import yaml
from card_schema import metadata_errors
from hub_repositories import Blob, Commit, Repository

USER, TOKEN, READ_TOKEN = "you", "hf_" + "secretsecret" * 3, "hf_" + "readonly" * 4
LARGE = (".safetensors", ".bin", ".pt")


class Hub:
    """A server that runs in a thread, as a context.

    Attributes:
        repositories: by their full name, such as `you/model`.
        requests: method and path of all requests, in the order in which they arrived.
        cut_uploads: so many of the next uploads of large files end in the middle, with a lost connection.
        lost_commits: so many of the next commits are made, but the connection is lost before the answer.
        private_by_default: the visibility of a repository that is made without one.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.tokens = {TOKEN: "write", READ_TOKEN: "read"}
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}
        self.cut_uploads = self.lost_commits = 0
        self.private_by_default = False
        self.faults: list[str] = []
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.storage = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._server.shutdown()
        self._server.server_close()

    def log_in(self, patch: pytest.MonkeyPatch) -> None:
        """Let the client of this process take the server for the Hub, as the user with the right to write."""
        constants = huggingface_hub.constants
        patch.setattr(constants, "ENDPOINT", self.endpoint)
        # what the client and transformers have derived from it before
        patch.setattr(huggingface_hub.hf_api.api, "endpoint", self.endpoint)
        patch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        files = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", TOKEN)

    def create(self, name: str, *, private: bool = False, **files: bytes) -> Repository:
        """A new repository with its first commit, as the Hub makes it."""
        start = {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")}
        repository = self.repositories[name] = Repository(private)
        more = {path: Blob(content, path.endswith(LARGE)) for path, content in files.items()}
        repository.add("main", Commit("initial commit", start | more))
        return repository


class Refused(Exception):
    """An answer with an error: the status, the code of the Hub and a message."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.code, self.message = status, code, message


class Handler(BaseHTTPRequestHandler):
    """Answers requests; `ROUTES` names the method of each."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *arguments) -> None:
        """Print nothing."""

    def handle_any(self) -> None:
        """Find the route of a request, and answer it."""
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        self.hub.requests.append((self.command, address.path))
        # datasets are repositories like those of models
        path = re.sub("^/datasets/", "/", address.path.replace("/api/datasets/", "/api/models/"))
        try:
            for method, pattern, name in ROUTES:
                if method == self.command and (found := re.fullmatch(pattern, path)):
                    with self.hub.lock:
                        getattr(self, name)(*map(unquote, found.groups()))
                    return
            raise Refused(404, "", f"no such address: {address.path}")
        except Refused as refusal:
            self.rest_of_body()
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            self.answer({"error": refusal.message}, refusal.status, {k: v for k, v in headers.items() if v})

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    # parts of requests and answers

    def rest_of_body(self) -> bytes:
        """The body, which may be sent in chunks."""
        if getattr(self, "body_of", None) == (id(self.headers), self.path):
            return b""
        self.body_of = (id(self.headers), self.path)
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def body(self) -> dict:
        return json.loads(self.rest_of_body())

    def answer(self, content: object = None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def hang_up(self) -> None:
        """Lose the connection, without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def right(self) -> str:
        """`read` or `write` according to the token, "" without one; a wrong token is refused whatever is asked."""
        given = self.headers.get("Authorization", "")
        if not given:
            return ""
        if (right := self.hub.tokens.get(given.removeprefix("Bearer "))) is None:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        return right

    def repository(self, name: str, *, write: bool = False) -> Repository:
        right, found = self.right(), self.hub.repositories.get(name)
        if not right and (found is None or found.private or write):
            # the Hub does not tell strangers which private repositories there are
            raise Refused(401, "RepoNotFound", "Invalid username or password.")
        if found is None or (found.private and not name.startswith(f"{USER}/")):
            raise Refused(404, "RepoNotFound", "Repository not found")
        if write and (right != "write" or not name.startswith(f"{USER}/")):
            raise Refused(403, "", "you don't have the required permissions to write to this repository")
        return found

    def commit_at(self, name: str, revision: str) -> Commit:
        commit = self.repository(name).at(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # the account and repositories

    def whoami(self) -> None:
        if not self.right():
            raise Refused(401, "", "Invalid username or password.")
        self.answer({"type": "user", "name": USER, "orgs": []})

    def create(self) -> None:
        asked = self.body()
        right = self.right()
        if not right:
            raise Refused(401, "", "Invalid username or password.")
        owner = asked.get("organization") or USER
        if right != "write" or owner != USER:
            raise Refused(403, "", f'You don\'t have the rights to create a model under the namespace "{owner}"')
        name = f"{owner}/{asked['name']}"
        url = {"url": f"{self.hub.endpoint}/{name}", "name": name}
        if name in self.hub.repositories:
            return self.answer({"error": "You already created this model repo", **url}, 409)
        visibility = asked.get("visibility") or ("private" if self.hub.private_by_default else "public")
        self.hub.create(name, private=visibility == "private")
        self.answer(url)

    def info(self, name: str, revision: str = "main") -> None:
        commit, repository = self.commit_at(name, revision), self.repository(name)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        self.answer(
            {"_id": "1", "id": name, "private": repository.private, "sha": commit.oid, "siblings": siblings, "tags": []}
        )

    def refs(self, name: str) -> None:
        found = self.repository(name)
        kinds = {"branches": ("heads", found.branches), "tags": ("tags", found.tags)}
        lists = {
            kind: [{"name": ref, "ref": f"refs/{place}/{ref}", "targetCommit": oid} for ref, oid in refs.items()]
            for kind, (place, refs) in kinds.items()
        }
        self.answer({**lists, "converts": []})

    def branch(self, name: str, branch: str) -> None:
        found, start = self.repository(name, write=True), self.body().get("startingPoint", "main")
        if branch in found.branches:
            raise Refused(409, "", f"Reference already exists: {branch}")
        found.branches[branch] = self.commit_at(name, start).oid
        self.answer({})

    def tag(self, name: str, revision: str) -> None:
        found, tag = self.repository(name, write=True), self.body()["tag"]
        if tag in found.tags:
            raise Refused(409, "", f"Tag already exists: {tag}")
        found.tags[tag] = self.commit_at(name, revision).oid
        self.answer({})

    def validate(self) -> None:
        text = self.body()["content"]
        parts = text.split("---\n", 2)
        errors = metadata_errors(yaml.safe_load(parts[1])) if text.startswith("---\n") else []
        found = {"errors": [{"message": error} for error in errors], "warnings": []}
        self.answer(found, 400 if errors else 200)

    # uploads

    def preupload(self, name: str, revision: str) -> None:
        self.repository(name, write=True)
        commit, files = self.commit_at(name, revision), []
        for file in self.body()["files"]:
            path = file["path"]
            known = commit.files.get(path)
            mode = "lfs" if path.endswith(LARGE) else "regular"
            entry = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            files.append(entry | ({"oid": known.oid} if known else {}))
        self.answer({"files": files})

    def batch(self, name: str) -> None:
        self.repository(name, write=True)
        objects = []
        for entry in self.body()["objects"]:
            upload = {"href": f"{self.hub.storage}/storage/{entry['oid']}?signature=1"}
            verify = {"href": f"{self.hub.endpoint}/{name}.git/info/lfs/verify"}
            actions = {} if entry["oid"] in self.hub.objects else {"actions": {"upload": upload, "verify": verify}}
            objects.append({**entry, **actions})
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        self.check_no_token()
        if self.hub.cut_uploads:
            self.hub.cut_uploads -= 1
            self.rfile.read(int(self.headers.get("Content-Length", 2)) // 2)
            return self.hang_up()
        content = self.rest_of_body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "", "the content has another SHA-256")
        self.hub.objects[oid] = content
        self.answer(b"", headers={"ETag": oid})

    def verify(self, name: str) -> None:
        self.repository(name, write=True)
        asked = self.body()
        if len(self.hub.objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(400, "", "the object is not in the storage")
        self.answer({})

    def commit(self, name: str, branch: str) -> None:
        found = self.repository(name, write=True)
        lines = [json.loads(line) for line in self.rest_of_body().splitlines()]
        if branch not in found.branches:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        parent = found.branches[branch]
        header, files = lines[0]["value"], dict(found.commits[parent].files)
        if header.get("parentCommit", parent) != parent:
            raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            self.apply(files, line["key"], line["value"])
        made = Commit(header["summary"], files, parent)
        found.add(branch, made)
        if self.hub.lost_commits:
            self.hub.lost_commits -= 1
            return self.hang_up()
        self.answer({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{made.oid}", "commitOid": made.oid})

    def apply(self, files: dict[str, Blob], kind: str, value: dict) -> None:
        path = value["path"]
        if kind == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif kind == "lfsFile" and value["oid"] in self.hub.objects:
            files[path] = Blob(self.hub.objects[value["oid"]], is_large=True)
        elif kind == "deletedFile" and path in files:
            del files[path]
        else:
            raise Refused(400, "", f"{kind} {path}: A file with this name doesn't exist")

    # downloads

    def tree(self, name: str, revision: str, folder: str = "") -> None:
        commit, entries = self.commit_at(name, revision), []
        prefix = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in commit.files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist")
        for path, blob in sorted(inside.items()):
            entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid}
            lfs = {"oid": blob.oid, "size": len(blob.content), "pointerSize": 134}
            entries.append(entry | ({"lfs": lfs} if blob.is_large else {}))
        self.answer(entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit = self.commit_at(name, revision)
        blob = commit.files.get(path)
        if blob is None:
            raise Refused(404, "EntryNotFound", f"{path} does not exist")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{blob.oid}"'}
        if not blob.is_large:
            return self.answer(blob.content, headers=headers)
        place = f"{self.hub.storage}/storage/{blob.oid}?signature=1"
        size = {"X-Linked-Size": str(len(blob.content)), "X-Linked-Etag": f'"{blob.oid}"'}
        self.hub.objects[blob.oid] = blob.content
        self.answer(b"", 302, {"X-Repo-Commit": commit.oid, "Location": place, **size})

    def stored(self, oid: str) -> None:
        self.check_no_token()
        self.answer(self.hub.objects[oid], headers={"ETag": f'"{oid}"'})

    def check_no_token(self) -> None:
        if "Authorization" in self.headers:
            self.hub.faults.append(f"a token was sent to the storage: {self.command} {self.path}")


REPO, REV = r"([\w.-]+/[\w.-]+)", "([^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("GET", f"/api/models/{REPO}", "info"),
    ("GET", f"/api/models/{REPO}/revision/{REV}", "info"),
    ("GET", f"/api/models/{REPO}/refs", "refs"),
    ("POST", f"/api/models/{REPO}/branch/{REV}", "branch"),
    ("POST", f"/api/models/{REPO}/tag/{REV}", "tag"),
    ("POST", f"/api/models/{REPO}/preupload/{REV}", "preupload"),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", "batch"),
    ("PUT", "/storage/(.*)", "store"),
    ("POST", f"/{REPO}.git/info/lfs/verify", "verify"),
    ("POST", f"/api/models/{REPO}/commit/{REV}", "commit"),
    ("GET", f"/api/models/{REPO}/tree/{REV}", "tree"),
    ("GET", f"/api/models/{REPO}/tree/{REV}/(.*)", "tree"),
    ("GET", f"/{REPO}/resolve/{REV}/(.*)", "resolve"),
    ("HEAD", f"/{REPO}/resolve/{REV}/(.*)", "resolve"),
    ("GET", "/storage/(.*)", "stored"),
]
