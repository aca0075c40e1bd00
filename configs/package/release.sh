#!/usr/bin/env bash
# Makes dist/: for each architecture the static binary in a .tar.gz and a .deb,
# the list of components (CycloneDX), the licences, and SHA256SUMS of all. Every
# binary is built a second time, from a copy of the tree in another folder with
# an empty build cache, and must be the same to the byte. `make release` calls it
# with GO, VERSION, REVISION and LDFLAGS, and NFPM and CYCLONEDX, modules at pinned versions.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${GO:?}" "${VERSION:?}" "${REVISION:?}" "${LDFLAGS:?}" "${NFPM:?}" "${CYCLONEDX:?}"
ARCHITECTURES=${ARCHITECTURES:-amd64 arm64}
export CGO_ENABLED=0 GOOS=linux GOFLAGS=-buildvcs=false GOAMD64=v1 GOARM64=v8.0
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 0)}
export SOURCE_DATE_EPOCH
# A Debian version begins with a number; a commit is not one.
if [[ $VERSION =~ ^v?([0-9]+\.[0-9].*)$ ]]; then DEB_VERSION=${BASH_REMATCH[1]//-/\~}; else DEB_VERSION=0.0.0~git$VERSION; fi
export DEB_VERSION

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
rm -rf dist
mkdir -p dist "$work/tree" "$work/tools"

tool() { # a Go program at a pinned version, for this machine
  env -u GOOS GOBIN="$work/tools" "$GO" install "$1"
}
tool "$NFPM"
tool "$CYCLONEDX"

# The tree as a clone has it.
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
  git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf - | tar -xf - -C "$work/tree"
else
  tar --exclude=./bin --exclude=./dist -cf - . | tar -xf - -C "$work/tree"
fi

for arch in $ARCHITECTURES; do
  export GOARCH=$arch ARCH=$arch STAGE="$work/stage-$arch"
  name=relay-$VERSION-linux-$arch
  "$GO" build -trimpath -pgo="$PGO" -ldflags "$LDFLAGS" -o "$work/$name/relay" .
  (cd "$work/tree" && GOCACHE="$work/cache" "$GO" build -trimpath -pgo="$PGO" -ldflags "$LDFLAGS" -o "$work/again-$arch" .)
  cmp "$work/$name/relay" "$work/again-$arch" || { echo "release: $arch: two builds differ" >&2; exit 1; }
  echo "release: $arch: two builds, the same bytes"

  # It cannot look up the licences of this module and of the standard library, and warns so.
  "$work/tools/cyclonedx-gomod" bin -json -licenses -std -noserial -notimestamp -version "$VERSION" -output "dist/$name.cdx.json" "$work/$name/relay" \
    2> "$work/components.log" || { cat "$work/components.log" >&2; exit 1; }
  GO=$GO sh configs/package/licences.sh > "$work/$name/THIRD-PARTY-LICENCES"
  cp README.md configs/relay.reference.yaml configs/relay.example.yaml configs/quickstart.zh-CN.md "$work/$name/"
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw,a-s \
    -C "$work" -cf - "$name" | gzip -9n > "dist/$name.tar.gz"

  make --no-print-directory --silent install BINARY="$work/$name/relay" LICENCES="$work/$name/THIRD-PARTY-LICENCES" DESTDIR="$STAGE" PREFIX=/usr
  find "$STAGE" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  "$work/tools/nfpm" package --config configs/package/nfpm.yaml --packager deb --target "dist/relay_${DEB_VERSION}_$arch.deb" > "$work/package.log" 2>&1 ||
    { cat "$work/package.log" >&2; exit 1; }
done
(cd dist && sha256sum -- * > SHA256SUMS)
echo "release: dist/"
cat dist/SHA256SUMS
