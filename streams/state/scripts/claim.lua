-- Become the owner of a partition, if it still is whose it was when that was asked: a copy of this call that comes late
-- must not take the partition back. KEYS: 1 meta. ARGV: 1 owner token, 2 owner token until now; empty if there was none.
local owner = redis.call('HGET', KEYS[1], 'owner_token')
if owner == ARGV[1] then
  return 'done'
end
if (owner or '') ~= ARGV[2] then
  return 'fenced'
end
redis.call('HSET', KEYS[1], 'owner_token', ARGV[1])
return 'ok'
