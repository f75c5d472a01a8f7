-- Renew the leases of a worker's groups, one a group, and tell which groups are no longer its own.
--
-- KEYS  1 queue   2 leases   3 holds   4 sizes   5 claims   (see record.lua)
-- ARGV  1 lease_ms   2 hold_ms   3.. tokens
-- RETURN tokens that are lost: swept, or gone with a flushed Redis
--
-- Costs what the number of groups costs, not of jobs: those are touched only when half of their hold is over, and then
-- of one group a call.
-- Why atomic: "still mine" and "keep off until" must be one step, or two workers could both believe it.

local queue, leases, holds, sizes, claims = unpack(KEYS)
local lease_ms, hold_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = clock_ms()
local lost, to_hold = {}, nil
write_even_when_full(sizes)

local function hold(token)
  local packed = redis.call('HGET', claims, token)
  local is_mine = owner_of(token, queue, holds)
  local jobs, zadd, hold_end = packed and cmsgpack.unpack(packed) or {}, {}, whole(now + hold_ms)
  for i = 1, #jobs, 2 do
    local lock_key = 'arq:in-progress:' .. jobs[i]
    if is_mine(jobs[i], redis.call('GET', lock_key)) then
      redis.call('SET', lock_key, token, 'PX', ARGV[2])
      zadd[#zadd + 1], zadd[#zadd + 2] = hold_end, jobs[i]
    end
  end
  in_chunks(zadd, function(...) redis.call('ZADD', queue, 'XX', ...) end)
  redis.call('ZADD', holds, 'XX', hold_end, token)
end

for i = 3, #ARGV do
  local token = ARGV[i]
  if redis.call('ZSCORE', leases, token) then
    redis.call('ZADD', leases, 'XX', whole(now + lease_ms), token)
    local hold_end = tonumber(redis.call('ZSCORE', holds, token) or '0')
    if not to_hold and hold_end - now < hold_ms / 2 then to_hold = token end
  else
    lost[#lost + 1] = token
  end
end
if to_hold then hold(to_hold) end
return lost
