-- Set where a partition stands, while the owner has it: at a first start, and at both ends of a rebuild.
-- KEYS: 1 meta, 2 outbox. ARGV: 1 owner token, 2 status, 3 step, 4 token, 5 midnight, 6 offsets, 7 model.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], 'before_step', 'before_token')
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'step', ARGV[3], 'token', ARGV[4],
  'midnight_day', ARGV[5], 'offsets', ARGV[6], 'model', ARGV[7])
return 'ok'
