-- Make every customer due at once, while the owner still has the partition. KEYS: 1 meta, 2 due. ARGV: 1 owner token.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
redis.call('ZUNIONSTORE', KEYS[2], 1, KEYS[2], 'WEIGHTS', 0)
return 'ok'
