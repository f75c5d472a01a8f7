-- Renew the leases of one group, and tell which of its jobs are no longer this group's.
--
-- KEYS  1 queue   2 leases   3 claims   (see claim.lua)
-- ARGV  1 lease_ms   2 token   3.. job ids (at most 1,000)
-- RETURN ids that are lost: settled, or taken by another claim, or gone with a flushed Redis
--
-- A lease that ran out while nobody took the job (Redis was away, the process stood still) is simply renewed: the
-- record in `claims` says whose the job is, the lease only says until when others keep off. If another claim took it
-- because this one seemed dead, the crash that was booked on the job is taken back: this process lives.
-- Why atomic: "still mine" and "keep off until" must be one step, or two workers could both believe it.

local queue, leases, claims = unpack(KEYS)
local lease_ms, token = tonumber(ARGV[1]), ARGV[2]
local ids, lock_keys = {}, {}
for i = 3, #ARGV do
  ids[#ids + 1] = ARGV[i]
  lock_keys[#lock_keys + 1] = 'arq:in-progress:' .. ARGV[i]
end
if #ids == 0 then return {} end

local records = redis.call('HMGET', claims, unpack(ids))
local locks = redis.call('MGET', unpack(lock_keys))
local ends = whole(clock_ms() + lease_ms)
local lost, zadd = {}, {}

for i, id in ipairs(ids) do
  local r = records[i] and parse(records[i])
  if r and r.token == token and (not locks[i] or locks[i] == token) then
    redis.call('SET', lock_keys[i], token, 'PX', lease_ms)
    zadd[#zadd + 1], zadd[#zadd + 2] = ends, id
  else
    lost[#lost + 1] = id
    if r then pardon(claims, id, r, token) end
  end
end
if #zadd > 0 then
  redis.call('ZADD', leases, 'XX', unpack(zadd))
  redis.call('ZADD', queue, 'XX', unpack(zadd))
end
return lost
