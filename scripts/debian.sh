# For other scripts to source: programs out of Debian packages, without root and without installing anything.

has_debian() { command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; }

# debian FOLDER PACKAGE …: downloads packages and unpacks them into FOLDER. The lists have a place of their own, so that fresh ones of the
# machine are not needed either. What they depend on comes along as far as its name matches the extended expression in $DEBIAN_ALSO.
debian() {
  local folder="$1" work="$1.apt" deb package
  shift
  rm -rf "$folder" "$work"
  mkdir -p "$folder" "$work/lists/partial" "$work/cache/archives/partial"
  local apt=(apt-get -q -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1 -o "APT::Sandbox::User=$(id -un)")
  get() { (cd "$work" && "${apt[@]}" download "$@") >>"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; }
  "${apt[@]}" update >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  get "$@"
  while [ -n "${DEBIAN_ALSO:-}" ]; do
    local more=()
    for deb in "$work"/*.deb; do
      for package in $(dpkg-deb --field "$deb" Depends | tr ',|' '\n\n' | sed 's/(.*//; s/:any//' | grep -E "^ *($DEBIAN_ALSO) *$" || true); do
        compgen -G "$work/${package}_*.deb" >/dev/null || more+=("$package")
      done
    done
    if [ ${#more[@]} = 0 ]; then break; fi
    get $(printf '%s\n' "${more[@]}" | sort -u)
  done
  for deb in "$work"/*.deb; do dpkg-deb --extract "$deb" "$folder"; done
  rm -rf "$work"
}
