# Sourced by the scripts that start other people's programs. Nothing is left, whatever ends the script: not the tests, not a
# browser or a server that they started.
#
# Gives `folder`, a new folder for all files of the run, and `supervised`. A script with more to put away defines
# `put_away`, which runs before the folder is deleted.
folder=$(mktemp -d)
running=

clean_up() {
    trap '' INT TERM HUP
    if [ -n "$running" ]; then
        kill -TERM -- "-$running" 2>/dev/null || true
        for _ in $(seq 20); do
            kill -0 -- "-$running" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$running" 2>/dev/null || true
    fi
    # Browsers have process groups of their own. Their profiles are in the folder.
    pkill -KILL -f -- "--user-data-dir=$folder/" || true
    if declare -F put_away >/dev/null; then put_away || true; fi
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command in a process group of its own, which a signal to this script ends.
supervised() {
    mkdir -p "$folder/tmp"
    set -m
    TMPDIR="$folder/tmp" "$@" </dev/null &
    running=$!
    set +m
    local status=0
    wait "$running" || status=$?
    running=
    return "$status"
}

# Ends a server whose process id is in a file of the folder.
end_server() {
    if [ -e "$folder/$1" ]; then kill "$(cat "$folder/$1")" 2>/dev/null || true; fi
}
