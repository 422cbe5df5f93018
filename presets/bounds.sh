# Sourced by stage 2: the bounds of the scores so far, which the next scripts get as flags of the filter: --filter FILE COLUMN LOW HIGH.
# A list of words in sh is its arguments alone, so they are kept a line each, and become arguments again where a command needs them.
newline='
'
bounds=

bound() { # a score file, its column, the lowest and the highest value that passes (none: no bound)
    bounds=$bounds--filter$newline$DATASET_FOLDER/$1$newline$2$newline$3$newline$4$newline
}

with_bounds() { # a command, which gets the bounds as its last arguments
    IFS=$newline
    set -f # a * in a path stays one
    set -- "$@" $bounds
    set +f
    unset IFS
    "$@"
}
