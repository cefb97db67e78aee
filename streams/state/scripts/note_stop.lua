-- Keep why a partition stopped, or with no reason forget it, while the owner still has it.
-- KEYS: 1 meta. ARGV: 1 owner token, 2 reason, 3 when, in microseconds since 1970.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], 'stopped_reason', 'stopped_at_us')
else
  redis.call('HSET', KEYS[1], 'stopped_reason', ARGV[2], 'stopped_at_us', ARGV[3])
end
return 'ok'
