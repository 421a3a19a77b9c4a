"""A real Keycloak with the realm file that production imports.

Started from an unpacked distribution, ``KEYCLOAK_HOME=/opt/keycloak-26.7.3``; or one that runs already, as in
the end-to-end run: ``KEYCLOAK_URL=http://172.20.0.5:8080/auth`` and what `Keycloak.running` says.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from support.ports import free_port

if TYPE_CHECKING:
    from support.stack import Stack

REALM_FILE = Path(__file__).parents[2] / "keycloak" / "clinicpacs-realm.json"
SECRETS = (
    "KEYCLOAK_CLIENT_SECRET",
    "EXPLORER_CLIENT_SECRET",
    "SCRIPTS_CLIENT_SECRET",
    "GRAFANA_CLIENT_SECRET",
)
ACCESS_TOKEN_SECONDS = "77"
_START_SECONDS = 400
_STOP_SECONDS = 20


@dataclass
class Keycloak:
    """A running server.

    Attributes:
        url: its root from here, such as ``http://127.0.0.1:8080/auth``.
        public_url: the platform's address, of which it makes the links in its pages.
        management_url: the root of health and metrics; None where it cannot be reached.
        secrets: the clients' secrets and KEYCLOAK_ADMIN_PASSWORD, by the variable's name.
        access_token_seconds: what ACCESS_TOKEN_SECONDS was when the realm was imported.
        log: the file it logs to; None where it is elsewhere.
        verify: how its certificate is checked.
    """

    url: str
    public_url: str
    management_url: str | None
    secrets: dict[str, str]
    access_token_seconds: int
    log: Path | None = None
    verify: bool | str = True
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def issuer(self) -> str:
        return f"{self.public_url}/auth/realms/clinicpacs"

    def endpoint(self, name: str) -> str:
        """An endpoint of OpenID Connect, from here: `auth`, `token`, `certs`, `logout`, `userinfo`."""
        return f"{self.url}/realms/clinicpacs/protocol/openid-connect/{name}"

    def inside(self, link: str) -> str:
        """A link of its pages, as it is reached from here."""
        return self.url + link.removeprefix(f"{self.public_url}/auth")

    def post_token(self, form: dict[str, str], realm: str = "clinicpacs") -> requests.Response:
        where = f"{self.url}/realms/{realm}/protocol/openid-connect/token"
        return requests.post(where, data=form, timeout=30, verify=self.verify)

    def service_token(self, client_id: str, secret_name: str) -> requests.Response:
        """A token for the client's own account (RFC 6749 section 4.4)."""
        credentials = {"client_id": client_id, "client_secret": self.secrets[secret_name]}
        return self.post_token({"grant_type": "client_credentials", **credentials})

    def bootstrap_token(self) -> str:
        """A token of the server's own administrator."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin"}
        answer = self.post_token({**form, "password": self.secrets["KEYCLOAK_ADMIN_PASSWORD"]}, "master")
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def admin(self, method: str, path: str, token: str, json: Any = None) -> requests.Response:
        """A request to the Admin API of the realm."""
        where = f"{self.url}/admin/realms/clinicpacs{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, where, json=json, headers=headers, timeout=30, verify=self.verify)

    # --- what an administrator does in its own pages, of which our commands know nothing ---

    def account(self, username: str) -> str:
        """A user's id."""
        [found] = self._changed("GET", f"/users?exact=true&username={username}").json()
        return str(found["id"])

    def delete_user(self, account: str) -> None:
        """Delete an account."""
        self._changed("DELETE", f"/users/{account}")

    def leave_groups(self, account: str) -> None:
        """Take a user out of all groups."""
        for group in self._changed("GET", f"/users/{account}/groups").json():
            self._changed("DELETE", f"/users/{account}/groups/{group['id']}")

    def take_role(self, account: str, name: str) -> None:
        """Take one of the realm's roles from a user."""
        held = self._changed("GET", f"/users/{account}/role-mappings/realm").json()
        self._changed(
            "DELETE", f"/users/{account}/role-mappings/realm", [each for each in held if each["name"] == name]
        )

    def _changed(self, method: str, path: str, json: Any = None) -> requests.Response:
        answer = self.admin(method, path, self.bootstrap_token(), json)
        assert answer.ok, answer.text
        return answer

    def metrics(self) -> str:
        assert self.management_url is not None
        return requests.get(f"{self.management_url}/metrics", timeout=30).text

    @classmethod
    def running(cls, environment: dict[str, str]) -> Keycloak:
        """One that somebody else started, by the variables of `.env` and these.

        KEYCLOAK_URL, its root; KEYCLOAK_MANAGEMENT_URL, the root of its metrics; KEYCLOAK_LOG, a file of its
        output; KEYCLOAK_CA_BUNDLE.
        """
        names = (*SECRETS, "KEYCLOAK_ADMIN_PASSWORD")
        log = environment.get("KEYCLOAK_LOG")
        return cls(
            url=environment["KEYCLOAK_URL"].rstrip("/"),
            public_url=environment["PUBLIC_URL"],
            management_url=environment.get("KEYCLOAK_MANAGEMENT_URL"),
            secrets={name: environment[name] for name in names},
            access_token_seconds=int(environment.get("ACCESS_TOKEN_SECONDS", "30")),
            log=Path(log) if log else None,
            verify=environment.get("KEYCLOAK_CA_BUNDLE") or True,
        )

    @classmethod
    def of(cls, stack: Stack) -> Keycloak:
        """That of the end-to-end run."""
        return cls.running(
            {**stack.settings, "KEYCLOAK_URL": f"http://{stack.address('keycloak')}:8080/auth"}
        )

    @classmethod
    def start(cls, home: Path, folder: Path) -> Keycloak:
        """Start the distribution in `home` with its database in `folder`; about half a minute."""
        own = _own_copy(home, folder / "keycloak")
        port, management_port = free_port(), free_port()
        known = {name: secrets.token_urlsafe(24) for name in (*SECRETS, "KEYCLOAK_ADMIN_PASSWORD")}
        public_url = "https://pacs.example.org"
        environment = {
            **os.environ,
            **known,
            "PUBLIC_URL": public_url,
            "ACCESS_TOKEN_SECONDS": ACCESS_TOKEN_SECONDS,
            "KC_DB": "dev-file",
            "KC_CACHE": "local",
            "KC_HTTP_HOST": "127.0.0.1",
            "KC_HTTP_PORT": str(port),
            "KC_HTTP_MANAGEMENT_HOST": "127.0.0.1",
            "KC_HTTP_MANAGEMENT_PORT": str(management_port),
            "KC_HTTP_ENABLED": "true",
            "KC_HTTP_RELATIVE_PATH": "/auth",
            "KC_HOSTNAME": f"{public_url}/auth",
            "KC_HOSTNAME_BACKCHANNEL_DYNAMIC": "true",
            "KC_PROXY_HEADERS": "xforwarded",
            "KC_HEALTH_ENABLED": "true",
            "KC_METRICS_ENABLED": "true",
            "KC_EVENT_METRICS_USER_ENABLED": "true",
            "KC_EVENT_METRICS_USER_TAGS": "realm,clientId",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": known["KEYCLOAK_ADMIN_PASSWORD"],
            "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
        }
        log = folder / "keycloak.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(own / "bin" / "kc.sh"), "start", "--import-realm"],
                stdout=output,
                stderr=output,
                env=environment,
            )
        server = cls(
            url=f"http://127.0.0.1:{port}/auth",
            public_url=public_url,
            management_url=f"http://127.0.0.1:{management_port}/auth",
            secrets=known,
            access_token_seconds=int(ACCESS_TOKEN_SECONDS),
            log=log,
            process=process,
        )
        server._wait_until_ready(process)
        return server

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if requests.get(f"{self.management_url}/health/ready", timeout=5).status_code == 200:
                    return
            except (requests.ConnectionError, requests.Timeout):
                pass
            time.sleep(0.25)
        said = self.log.read_text(errors="replace")[-3000:] if self.log else ""
        self.stop()
        raise RuntimeError(f"Keycloak did not become ready: {said}")

    def stop(self) -> None:
        """End the process that `start` made."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _own_copy(home: Path, target: Path) -> Path:
    """What Keycloak writes to is copied (its build, its data), the rest linked."""
    (target / "data" / "import").mkdir(parents=True)
    (target / "lib").mkdir()
    for name in ("bin", "conf"):
        shutil.copytree(home / name, target / name)
    for name in ("providers", "themes", "lib/lib", "lib/app"):
        (target / name).symlink_to(home / name)
    for name in ("lib/quarkus-run.jar", "version.txt"):
        shutil.copyfile(home / name, target / name)
    shutil.copytree(home / "lib" / "quarkus", target / "lib" / "quarkus")
    shutil.copyfile(REALM_FILE, target / "data" / "import" / REALM_FILE.name)
    return target
