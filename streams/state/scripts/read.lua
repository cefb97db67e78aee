-- Answer a command if Redis is where the owner left it; else it might answer from before a loss.
-- KEYS: 1 meta, 2… those of the command. ARGV: 1 owner token, 2 micro-batch, 3 token, 4 command, 5… its other arguments.
-- Returns the verdict (`ok`, `fenced` or `conflict`) and the answer.
local meta = redis.call('HMGET', KEYS[1], 'owner_token', 'step', 'token')
if meta[1] ~= ARGV[1] then
  return {'fenced'}
end
if meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then
  return {'conflict'}
end
local command = {ARGV[4]}
for at = 2, #KEYS do
  command[#command + 1] = KEYS[at]
end
for at = 5, #ARGV do
  command[#command + 1] = ARGV[at]
end
return {'ok', redis.call(unpack(command))}
