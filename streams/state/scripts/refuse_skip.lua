-- Delete a request to skip that the owner does not obey, while it still is the one that was read and the owner's to refuse.
-- KEYS: 1 meta, 2 skip request. ARGV: 1 owner token, 2 the request.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
if redis.call('GET', KEYS[2]) == ARGV[2] then
  redis.call('DEL', KEYS[2])
end
return 'ok'
