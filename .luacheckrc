-- What scripts in Redis have, on every Redis that they run on: see queue_run/storage/script_files.py.
std = {
  read_globals = {
    "KEYS", "ARGV", redis = {fields = {"call", "pcall"}}, cjson = {fields = {"encode", "decode"}},
    "string", "table", "math", "tonumber", "tostring",
    "ipairs", "pairs", "type", "unpack", "assert", "pcall",
    -- What included files define. That a script includes what it uses, a test says.
    "now", "spent", "gave", "note", "known_since", "take_back",
    "servers", "server", "online", "leaving", "epoch", "sweeps", "users_of",
    "watched", "expiry", "limit", "DONE", "MORE", "UNKNOWN",
    "is_known", "note_server", "report", "depart", "take_down",
  },
}
for _, name in ipairs {"string", "table", "math"} do
  std.read_globals[name] = {other_fields = true}
end
max_line_length = 100
-- Declared for Redis, and named again in a command that is given whole.
ignore = {"211/stream"}
-- Their locals are used where they are included.
files["queue_run/storage/lua/include"] = {ignore = {"211"}}
