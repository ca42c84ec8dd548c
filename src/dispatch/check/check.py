# Runs in the scanner's image: asks Prowler's own library whether it gets into an account, and
# tells the answer in one line of JSON. The keys of the Secret lie in files named after them; none
# of their values is printed.
import base64
import importlib
import inspect
import json
import logging
import os
import pathlib
import signal
import threading

SOFT = int(os.environ.get("PROWLER_OPERATOR_SECONDS", "60"))
HARD = 2 * SOFT
TOLD = os.environ.get("PROWLER_OPERATOR_TOLD", "/dev/termination-log")
kind = os.environ["PROWLER_OPERATOR_PROVIDER"]
uid = os.environ["PROWLER_OPERATOR_UID"]
folder = pathlib.Path(os.environ["PROWLER_OPERATOR_KEYS"])
# What a library prints may hold what was given to it.
logging.disable(logging.CRITICAL)

keys = {}
if folder.is_dir():
    for path in folder.iterdir():
        if path.is_file():
            keys[path.name] = path.read_text()


# A certificate in PKCS #12 shows its end only to who opens it.
expires = None
try:
    from cryptography.hazmat.primitives.serialization import pkcs12

    packed = pkcs12.load_pkcs12(base64.b64decode(keys["certificate_content"]), b"")
    expires = int(packed.cert.certificate.not_valid_after_utc.timestamp())
except Exception:
    # None there, or PEM, or what the library itself will say is wrong.
    pass


def tell(connected, error="", message=""):
    for value in keys.values():
        for part in {value, *value.splitlines()}:
            if len(part.strip()) >= 4:
                message = message.replace(part.strip(), "[redacted]")
    answer = {"connected": connected, "error": error[:100], "message": message[:1000]}
    if expires:
        answer["expires"] = expires
    pathlib.Path(TOLD).write_text(json.dumps(answer))
    # Whatever a library left running is not waited for.
    os._exit(0)


def too_late(*_):
    raise TimeoutError(f"no answer within {SOFT} s")


def arguments(test):
    given = dict(keys)
    if kind == "gcp" and "service_account_key" in given:
        given["service_account_key"] = json.loads(given["service_account_key"])
    if kind == "oraclecloud":
        # The library wants the key's text in Base64, and finds the region itself.
        given.pop("region", None)
        text = given.pop("key_content", None) or given.pop("key_file", "")
        given.pop("key_file", None)
        given["key_content"] = base64.b64encode(text.encode()).decode()
    for number in ("session_duration", "github_app_id"):
        if number in given:
            given[number] = int(given[number])
    # By what each type's library calls the account where it wants more than an id.
    account = {
        "iac": {"scan_repository_url": uid},
        "image": {"image": uid},
        "okta": {"okta_org_domain": uid},
        "vercel": {"team_id": uid},
    }
    given.update(account.get(kind, {}))
    if kind == "azure" and not keys:
        given["managed_identity_auth"] = True
    if kind == "m365" and "certificate_content" in keys:
        given["certificate_auth"] = True
    # A cluster that is scanned from inside has no context.
    if kind != "kubernetes" or keys:
        given["provider_id"] = uid
    if kind == "alibabacloud" and "ALIBABA_CLOUD_ROLE_ARN" in os.environ and not keys:
        given["oidc_role_arn"] = os.environ["ALIBABA_CLOUD_ROLE_ARN"]
    known = inspect.signature(test).parameters
    return {name: value for name, value in given.items() if name in known}


hard = threading.Timer(HARD, tell, (False, "TimeoutError", f"no answer within {HARD} s"))
hard.daemon = True
hard.start()
signal.signal(signal.SIGALRM, too_late)
signal.alarm(SOFT)
try:
    module = importlib.import_module(f"prowler.providers.{kind}.{kind}_provider")
    test = getattr(module, f"{kind.capitalize()}Provider").test_connection
    found = test(**arguments(test), raise_on_exception=False)
    error = found.error
    if found.is_connected:
        tell(True)
    elif isinstance(error, BaseException):
        tell(False, type(error).__name__, str(error))
    else:
        tell(False, "", str(error or "no reason was given"))
except SystemExit as error:
    tell(False, "SystemExit", str(error))
except BaseException as error:
    tell(False, type(error).__name__, str(error))
