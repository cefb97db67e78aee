-- Keep where a partition is stuck and why, or with nothing to keep forget it, while the owner still has it.
-- KEYS: 1 meta. ARGV: 1 owner token, 2 what is kept.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], 'stuck')
else
  redis.call('HSET', KEYS[1], 'stuck', ARGV[2])
end
return 'ok'
