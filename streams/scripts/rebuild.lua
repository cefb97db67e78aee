-- Write rebuilt states while the owner still has the partition; the step is written last, by persist.lua's rules.
-- KEYS: 1 meta, 2 due, 3 erased, 4… one per customer.
-- ARGV: 1 owner token, 2 number of erased; then (HMAC, what is remembered) per erased; (id, state, due day) per customer.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
local at = 3
for _ = 1, tonumber(ARGV[2]) do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for key = 4, #KEYS do
  redis.call('SET', KEYS[key], ARGV[at + 1])
  redis.call('ZADD', KEYS[2], ARGV[at + 2], ARGV[at])
  at = at + 3
end
return 'ok'
