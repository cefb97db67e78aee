-- Keep which topics a partition's offsets are of, while the owner still has it.
-- KEYS: 1 meta. ARGV: 1 owner token, 2 the topics' ids as JSON.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
redis.call('HSET', KEYS[1], 'topic_ids', ARGV[2])
return 'ok'
