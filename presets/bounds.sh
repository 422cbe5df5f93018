# Sourced by stage 2: the bounds of the scores so far, passed to the next scripts as flags of the filter: --filter FILE COLUMN LOW HIGH.
# sh has no arrays: they are kept one per line, and become arguments again for the command that needs them.
newline='
'
bounds=

bound() { # score file, column, minimum and maximum that pass (none: no bound)
    bounds=$bounds--filter$newline$DATASET_FOLDER/$1$newline$2$newline$3$newline$4$newline
}

with_bounds() { # a command; appends the bounds to its arguments
    IFS=$newline
    set -f # no globbing: a path may contain *
    set -- "$@" $bounds
    set +f
    unset IFS
    "$@"
}
