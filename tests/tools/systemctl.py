#!/usr/bin/env python3
"""systemctl for an installation in a folder, where no systemd runs.

  SYSTEMCTL_ROOT=DIR systemctl.py enable --now UNIT     start it, return when it is READY=1
  SYSTEMCTL_ROOT=DIR systemctl.py stop UNIT             SIGTERM, wait for its end
  SYSTEMCTL_ROOT=DIR systemctl.py restart UNIT          both, of one that runs here; else nothing
  SYSTEMCTL_ROOT=DIR systemctl.py daemon-reload         nothing: units are read when they start

Understands of DIR/usr/lib/systemd/system/UNIT.service and its drop-ins what our units use:
Environment, EnvironmentFile, ExecStart, LoadCredential, StateDirectory, WorkingDirectory, and the sockets of
Requires. Absolute paths are those below DIR, where they are. No sandbox, no user of its own, no
restart: what a unit forbids is systemd-analyze's business. Log in DIR/run/UNIT.log.
"""
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import time

ROOT = os.environ["SYSTEMCTL_ROOT"]
RUN = ROOT + "/run"
DEADLINE_S = 30


def below(path):
    return ROOT + path if path.startswith("/") and not path.startswith(ROOT) else path


def load(unit):
    """{key: [values]} of all sections; an empty value empties the list"""
    settings = {}
    files = [below("/usr/lib/systemd/system/" + unit)]
    drop_ins = below("/etc/systemd/system/%s.d" % unit)
    if os.path.isdir(drop_ins):
        files += [os.path.join(drop_ins, f) for f in sorted(os.listdir(drop_ins))]
    for name in files:
        with open(name) as f:
            text = re.sub(r"\\\n", " ", re.sub(r"(?m)^[#;].*\n", "", f.read()))
        for line in text.splitlines():
            if "=" in line:
                key, value = (x.strip() for x in line.split("=", 1))
                settings[key] = settings.get(key, []) + [value] if value else []
    return settings


def words(line, environment):
    """ExecStart as systemd.service(5) splits it: ${NAME} in place, $NAME to words"""
    for word in shlex.split(line):
        whole = re.fullmatch(r"\$(\w+)", word)
        if whole:
            yield from environment.get(whole.group(1), "").split()
        else:
            yield re.sub(r"\$\{(\w+)\}", lambda m: environment.get(m.group(1), ""), word)


def sockets(settings):
    for unit in " ".join(settings.get("Requires", [])).split():
        if not unit.endswith(".socket"):
            continue
        for address in load(unit).get("ListenStream", []):
            if address.startswith("/"):
                os.makedirs(os.path.dirname(below(address)), exist_ok=True)
                s = socket.socket(socket.AF_UNIX)
                s.bind(below(address))
            else:
                host, port = address.rsplit(":", 1)
                s = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind((host.strip("[]"), int(port)))
            s.listen()
            yield s


def environment_of(unit, settings):
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    for assignment in settings.get("Environment", []):
        key, value = assignment.split("=", 1)
        environment[key] = value
    for name in settings.get("EnvironmentFile", []):
        with open(below(name)) as f:
            for line in f:
                if line.strip() and line[0] not in "#;":
                    key, value = line.strip().split("=", 1)
                    environment[key] = value
    for credential in settings.get("LoadCredential", []):
        name, path = credential.split(":", 1)
        folder = "%s/credentials/%s" % (RUN, unit)
        os.makedirs(folder, 0o700, exist_ok=True)
        if os.path.exists(folder + "/" + name):
            os.unlink(folder + "/" + name)
        shutil.copyfile(below(path), folder + "/" + name)
        os.chmod(folder + "/" + name, 0o400)
        environment["CREDENTIALS_DIRECTORY"] = folder
    for folder in settings.get("StateDirectory", []):
        environment["STATE_DIRECTORY"] = below("/var/lib/" + folder)
        os.makedirs(environment["STATE_DIRECTORY"], 0o700, exist_ok=True)
    # systemd does not need this, the tests do
    for name in os.environ:
        if re.match(r"LD_PRELOAD|STATUSES|ASAN_|UBSAN_|LSAN_", name):
            environment[name] = os.environ[name]
    return environment


def become(argv, environment, listening, folder, log):
    """in the child: descriptors from 3 on are the sockets, all others closed"""
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    kept = [os.dup(os.dup2(s.fileno(), 200 + i)) for i, s in enumerate(listening)]
    for i, fd in enumerate(kept):
        os.dup2(fd, 3 + i)
    os.closerange(3 + len(kept), 1024)
    if kept:
        environment["LISTEN_FDS"] = str(len(kept))
        environment["LISTEN_PID"] = str(os.getpid())
    os.chdir(folder)
    os.execve(argv[0], argv, environment)


def start(unit):
    settings = load(unit + ".service")
    environment = environment_of(unit, settings)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind("\0outboard-test-%d" % os.getpid())
    notify.settimeout(0.2)
    environment["NOTIFY_SOCKET"] = "@outboard-test-%d" % os.getpid()
    listening = list(sockets(settings))
    argv = list(words(settings["ExecStart"][-1], environment))
    argv = [below(a) if a.startswith("/") and os.path.exists(below(a)) else a for a in argv]
    folder = settings.get("WorkingDirectory", ["/"])[-1].replace("%S", ROOT + "/var/lib")
    log = os.open("%s/%s.log" % (RUN, unit), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid == 0:
        become(argv, environment, listening, folder, log)
    with open("%s/%s.pid" % (RUN, unit), "w") as f:
        f.write("%d\n" % pid)
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        try:
            if b"READY=1" in notify.recv(65536).split(b"\n"):
                return 0
        except socket.timeout:
            pass
        if os.waitpid(pid, os.WNOHANG)[0]:
            break
    print("systemctl.py: %s did not become ready" % unit, file=sys.stderr)
    with open("%s/%s.log" % (RUN, unit)) as f:
        sys.stderr.write(f.read()[-4000:])
    return 1


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def stop(unit):
    try:
        with open("%s/%s.pid" % (RUN, unit)) as f:
            pid = int(f.read())
        os.unlink("%s/%s.pid" % (RUN, unit))
    except FileNotFoundError:
        return 0
    if alive(pid):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + DEADLINE_S
    while alive(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            return 1
        time.sleep(0.02)
    for unit_socket in " ".join(load(unit + ".service").get("Requires", [])).split():
        for address in load(unit_socket).get("ListenStream", []):
            if address.startswith("/") and os.path.exists(below(address)):
                os.unlink(below(address))
    return 0


def main():
    os.makedirs(RUN, exist_ok=True)
    if sys.argv[1:3] == ["enable", "--now"]:
        return start(sys.argv[3])
    if sys.argv[1] == "stop":
        return stop(sys.argv[2])
    if sys.argv[1] == "restart":
        runs = os.path.exists("%s/%s.pid" % (RUN, sys.argv[2]))
        return stop(sys.argv[2]) or start(sys.argv[2]) if runs else 0
    return 0 if sys.argv[1] == "daemon-reload" else 64


sys.exit(main())
