-- Set where a partition stands, without a word on its customers, while the owner has it.
-- KEYS: 1 meta, 2 outbox. ARGV: 1 owner token, 2 status, 3 micro-batch, 4 token, 5 midnight, 6 offsets, 7 model,
--       8 rebuild token and 9 rebuild writes of the rebuild that ends; both empty at a first start, where nothing may be;
--       10 facts, 11 first load, empty where there is none.
if redis.call('HGET', KEYS[1], 'owner_token') ~= ARGV[1] then
  return 'fenced'
end
if ARGV[8] ~= '' then
  local at = redis.call('HMGET', KEYS[1], 'token', 'rebuild_writes')
  if at[1] == ARGV[4] and at[2] == false then
    return 'done'
  end
  if at[1] ~= ARGV[8] or at[2] ~= ARGV[9] then
    return 'conflict'
  end
elseif ARGV[2] == 'ready' then
  local token = redis.call('HGET', KEYS[1], 'token')
  if token == ARGV[4] then
    return 'done'
  end
  if token then
    return 'conflict'
  end
end
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], 'before_step', 'before_token', 'rebuild_writes')
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'step', ARGV[3], 'token', ARGV[4],
  'midnight_day', ARGV[5], 'offsets', ARGV[6], 'model', ARGV[7], 'facts', ARGV[10], 'load', ARGV[11])
if ARGV[2] == 'rebuilding' then
  redis.call('HSET', KEYS[1], 'rebuild_writes', 0)
end
return 'ok'
