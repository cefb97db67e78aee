-- One write of a rebuild: delete keys, or write states. Each counts, so that Redis cannot lose one unnoticed.
-- KEYS: 1 meta, 2 due, 3 erased, 4 skipped, 5… one per customer; then those to delete.
-- ARGV: 1 owner token, 2 rebuild token, 3 writes before this one, 4 number of erased, 5 number of customers,
--       6 number of skipped ranges; then (topic and first offset, next offset) per skipped range;
--       (HMAC, what is remembered) per erased; (id, state, due day) per customer.
-- Returns `ok`; `done` for a repeat; `fenced` if another owner has the partition; `conflict` if writes were lost.
local meta = redis.call('HMGET', KEYS[1], 'owner_token', 'token', 'rebuild_writes')
if meta[1] ~= ARGV[1] then
  return 'fenced'
end
local writes = tonumber(ARGV[3])
if meta[2] == ARGV[2] and meta[3] == tostring(writes + 1) then
  return 'done'
end
if meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then
  return 'conflict'
end
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[4]) do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
local last = 4 + tonumber(ARGV[5])
for key = 5, last do
  redis.call('SET', KEYS[key], ARGV[at + 1])
  redis.call('ZADD', KEYS[2], ARGV[at + 2], ARGV[at])
  at = at + 3
end
for key = last + 1, #KEYS do
  redis.call('UNLINK', KEYS[key])
end
redis.call('HSET', KEYS[1], 'rebuild_writes', writes + 1)
return 'ok'
