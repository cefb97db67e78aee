-- Delete keys of a partition while the owner still has it. KEYS: 1 meta, 2… what to delete. ARGV: 1 owner token.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
for key = 2, #KEYS do
  redis.call('UNLINK', KEYS[key])
end
return 'ok'
