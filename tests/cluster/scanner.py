"""Asks the Prowler of the scanner's image what the operator's table of provider types relies on.

Reads questions as JSON from standard input and writes the answers as JSON; see scanner.rs.
"""

import contextlib
import http.server
import io
import json
import os
import pathlib
import sys
import threading

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Whatever Prowler prints is not the answer.

PACKAGES = pathlib.Path(os.environ["PYTHONPATH"])
# Where, beside Prowler's own provider, a variable may be read.
SDKS = {
    "aws": ["botocore"],
    "azure": ["azure/identity", "msal"],
    "m365": ["azure/identity"],
    "alibabacloud": ["alibabacloud_credentials"],
}


def parse(rows):
    """For each list of arguments what the parser complained of, or nothing."""
    from prowler.lib.cli.parser import ProwlerArgumentParser

    parser = ProwlerArgumentParser()

    def complaint(args):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                parser.parse(["prowler", *args])
            except SystemExit as end:
                return f"exit {end.code}: {said.getvalue()[-400:]}"
        return None

    return [complaint(args) for args in rows]


def unread(variables):
    """Those [provider type, variable] that neither Prowler nor the SDK reads."""
    sources = {}

    def text(provider):
        if provider not in sources:
            folders = [f"prowler/providers/{provider}", *SDKS.get(provider, [])]
            files = [file for folder in folders for file in (PACKAGES / folder).rglob("*.py")]
            sources[provider] = "\n".join(file.read_text(errors="replace") for file in files)
        return sources[provider]

    return [[provider, name] for provider, name in variables if name not in text(provider)]


def facts(providers):
    """What each provider type has to choose among."""
    from prowler.config.config import get_available_compliance_frameworks
    from prowler.lib.check.models import CheckMetadata
    from prowler.providers.common.provider import Provider

    def of(provider):
        if Provider.is_tool_wrapper_provider(provider):
            return {"checks": 0, "categories": 0, "frameworks": 0}
        checks = CheckMetadata.get_bulk(provider)
        return {
            "checks": len(checks),
            "categories": len({category for check in checks.values() for category in check.Categories}),
            "frameworks": len(get_available_compliance_frameworks(provider)),
        }

    return {provider: of(provider) for provider in providers}


def unknown(choices):
    """Those [provider type, field, word] of which the type has no check."""
    from prowler.lib.check.models import CheckMetadata

    def words(provider, field):
        checks = CheckMetadata.get_bulk(provider).values()
        if field in ("services", "excludedServices"):
            return {check.ServiceName for check in checks}
        return {category for check in checks for category in check.Categories}

    return [[provider, field, word] for provider, field, word in choices if word not in words(provider, field)]


def signing_key(pass_phrase):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(pass_phrase.encode()),
    ).decode()


def oci_config(path):
    """The configuration as Prowler's Oracle provider reads it, with the key opened."""
    import oci

    config = oci.config.from_file(path, "DEFAULT")
    oci.config.validate_config(config)
    key = oci.signer.load_private_key_from_file(config["key_file"], config["pass_phrase"])
    return {**{name: config[name] for name in ("user", "tenancy", "region")}, "bits": key.key_size}


def gcp_user(path):
    """The credentials as Prowler's Google provider finds them."""
    import google.auth

    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = path
    found, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return {name: getattr(found, name) for name in ("client_id", "client_secret", "refresh_token")}


def azure_session(environment):
    """The ways that Prowler's Azure provider tries with --managed-identity-auth, in their order."""
    from prowler.providers.azure.azure_provider import AzureProvider

    os.environ.update(environment)
    session = AzureProvider.setup_session(
        az_cli_auth=False,
        sp_env_auth=False,
        browser_auth=False,
        managed_identity_auth=True,
        tenant_id=None,
        azure_credentials=None,
        region_config=AzureProvider.setup_region_config("AzureCloud"),
    )
    return session, [type(way).__name__ for way in session.credentials]


def azure_asked(variable):
    """The paths asked of the address in the variable by a pod without a federated token."""
    asked = []

    class Node(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path.partition("?")[0])
            self.send_error(400)

        def log_message(self, *_):
            pass

    node = http.server.HTTPServer(("127.0.0.1", 0), Node)
    threading.Thread(target=node.serve_forever, daemon=True).start()
    session, _ = azure_session({variable: f"http://127.0.0.1:{node.server_port}"})
    with contextlib.suppress(Exception):
        session.get_token("https://management.azure.com/.default")
    return sorted(set(asked))


def alibaba_chain(environment):
    """The ways that Alibaba Cloud's SDK tries when it is given nothing."""
    os.environ.update(environment)
    from alibabacloud_credentials.provider.default import DefaultCredentialsProvider

    chain = vars(DefaultCredentialsProvider())["_DefaultCredentialsProvider__providers_chain"]
    return [type(way).__name__ for way in chain]


QUESTIONS = {
    "parse": parse,
    "unread": unread,
    "facts": facts,
    "unknown": unknown,
    "signing_key": signing_key,
    "oci_config": oci_config,
    "gcp_user": gcp_user,
    "azure_ways": lambda environment: azure_session(environment)[1],
    "azure_asked": azure_asked,
    "alibaba_chain": alibaba_chain,
}

with answers:
    json.dump({name: QUESTIONS[name](asked) for name, asked in json.load(sys.stdin).items()}, answers)
