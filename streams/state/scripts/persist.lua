-- Write one micro-batch of a partition, all or nothing.
-- KEYS: 1 meta, 2 due, 3 erased, 4 outbox, 5 skipped, 6 skip request, 7… one per customer.
-- ARGV: 1 owner token, 2 micro-batch and 3 token that it starts from, 4 micro-batch and 5 token of it, 6 midnight, 7 offsets, 8 model,
--       9 outbox, 10 whether everyone is due, 11 number of erased, 12 number of those put off, 13 number of skipped ranges,
--       14 whether the skip request is obeyed, 15 facts, 16 first load, empty where there is none;
--       then (topic and first offset, next offset) per skipped range;
--       (id, due day) per customer put off; (HMAC, what is remembered) per erased; (id, state, due day) per customer.
-- Returns `ok`; `done` for a repeat of the same micro-batch; `fenced` if another owner has the partition; `conflict` otherwise.
local meta = redis.call('HMGET', KEYS[1], 'owner_token', 'step', 'token')
if meta[1] ~= ARGV[1] then
  return 'fenced'
end
if meta[2] == ARGV[4] and meta[3] == ARGV[5] then
  return 'done'
end
if meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then
  return 'conflict'
end
if ARGV[10] == '1' then
  redis.call('ZUNIONSTORE', KEYS[2], 1, KEYS[2], 'WEIGHTS', 0)
end
if ARGV[14] == '1' then
  redis.call('DEL', KEYS[6])
end
local at = 17
for _ = 1, tonumber(ARGV[13]) do
  redis.call('HSET', KEYS[5], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[12]) do
  redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at])
  at = at + 2
end
for _ = 1, tonumber(ARGV[11]) do
  redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for key = 7, #KEYS do
  local id, state, due = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if state == '' then
    redis.call('DEL', KEYS[key])
  else
    redis.call('SET', KEYS[key], state)
  end
  if due == '' then
    redis.call('ZREM', KEYS[2], id)
  else
    redis.call('ZADD', KEYS[2], due, id)
  end
  at = at + 3
end
redis.call('SET', KEYS[4], ARGV[9])
redis.call('HSET', KEYS[1], 'step', ARGV[4], 'token', ARGV[5], 'before_step', ARGV[2], 'before_token', ARGV[3],
  'midnight_day', ARGV[6], 'offsets', ARGV[7], 'model', ARGV[8], 'facts', ARGV[15], 'load', ARGV[16], 'status', 'ready')
return 'ok'
