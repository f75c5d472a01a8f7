-- Renew the leases of one group, and tell which of its jobs are no longer this group's.
--
-- KEYS  1 queue   2 leases   3 suspects   (see record.lua)
-- ARGV  1 lease_ms   2 token   3.. ids of the group's open jobs (at most 1,000)
-- RETURN ids that are lost: settled, or taken by another claim, or gone with a flushed Redis
--
-- If another claim took a job because this group seemed dead, the crash booked on the job is taken back: it lives.
-- Why atomic: "still mine" and "keep off until" must be one step, or two workers could both believe it.

local queue, leases, suspects = unpack(KEYS)
local lease_ms, token = ARGV[1], ARGV[2]
local ids, lock_keys, n = {}, {}, #ARGV - 2
if n == 0 then return {} end
for i = 1, n do
  local id = ARGV[i + 2]
  ids[i], lock_keys[i] = id, 'arq:in-progress:' .. id
end

local locks = redis.call('MGET', unpack(lock_keys))
local is_mine = owner_of(token, queue, leases)
local ends = whole(clock_ms() + tonumber(lease_ms))
local lost, zadd = {}, {}
for i = 1, n do
  local id = ids[i]
  if is_mine(id, locks[i]) then
    redis.call('SET', lock_keys[i], token, 'PX', lease_ms)
    zadd[#zadd + 1], zadd[#zadd + 2] = ends, id
  else
    lost[#lost + 1] = id
  end
end
if #zadd > 0 then
  redis.call('ZADD', queue, 'XX', unpack(zadd))
  redis.call('ZADD', leases, 'XX', ends, token)
end
pardon(suspects, lost, token)
return lost
