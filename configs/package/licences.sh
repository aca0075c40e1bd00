#!/bin/sh
# Prints the licence texts of every module that is linked into the relay for
# GOOS/GOARCH, and of what is embedded in it, as their licences ask of whoever
# passes the binary on. Fails for a module that has none.
set -eu
go=${GO:-go}
"$go" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' . | sort -u |
while read -r path version dir; do
	found=''
	for file in "$dir"/LICEN[CS]E* "$dir"/COPYING* "$dir"/NOTICE*; do
		[ -f "$file" ] || continue
		found=yes
		printf '==== %s %s: %s\n\n' "$path" "$version" "${file##*/}"
		cat "$file"
		printf '\n'
	done
	[ -n "$found" ] || { echo "licences: $path $version has no licence file" >&2; exit 1; }
done
uplot=telemetry/live/page/uplot
printf '==== %s: LICENSE\n\n' "$(sed 's/,.*//;q' $uplot/README.md)"
cat $uplot/LICENSE
printf '\n'
printf '==== the Go standard library %s: LICENSE\n\n' "$("$go" env GOVERSION)"
cat "$("$go" env GOROOT)/LICENSE"
