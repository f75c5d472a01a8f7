-- Put jobs of dead replicas back: their lease ran out and nobody renewed or settled it.
--
-- KEYS  1 queue   2 leases   3 claims   4 isolating   (see claim.lua)
-- ARGV  1 crashes a job must have seen before it can be condemned   2 crashes after which it always is   3 at most so many jobs
-- RETURN flat {token, jobs put back, ...}
--
-- The try is not counted: a crash has its own account. All jobs of the dead group that were not settled become
-- suspects and may only run in groups of half their number; from the second crash on, in a process that runs nothing
-- else (claim.lua); a job that was alone in such a process when it died is condemned (`dead`).
-- Why atomic: a worker that is only slow may renew at any moment; it is this or that, never half of each.

local queue, leases, claims, isolating = unpack(KEYS)
local min_crashes, max_crashes = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[3])
if #ids == 0 then return {} end

local records = redis.call('HMGET', claims, unpack(ids))
local orphans, left, order = {}, {}, {}
for i, id in ipairs(ids) do
  local lock = redis.call('GET', 'arq:in-progress:' .. id)
  local t, size, lim, crashes, soft, score, blamed, dead
  if records[i] then
    t, size, lim, crashes, soft, score, blamed, dead =
      string.match(records[i], '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|([^|]*)|(%d)$')
  end
  if not t or t == '' or (lock and lock ~= t) then
    redis.call('ZREM', leases, id)  -- settled, or run by a stock arq worker meanwhile
    if lock then redis.call('HDEL', claims, id) end
  elseif not lock then
    orphans[#orphans + 1] = {id, t, size, tonumber(crashes), soft, score}
    if not left[t] then left[t] = 0 order[#order + 1] = t end
    left[t] = left[t] + 1
  end
end

local owner = redis.call('GET', isolating)
for _, job in ipairs(orphans) do
  local id, token, size, crashes, soft, score = unpack(job)
  local n = left[token]
  local condemned = (n == 1 and crashes + 1 >= min_crashes) or crashes + 1 >= max_crashes
  redis.call('HSET', claims, id, table.concat(
    {'', size, math.max(1, math.floor(n / 2)), crashes + 1, soft, score, token, condemned and '1' or '0'}, '|'))
  redis.call('ZREM', leases, id)
  redis.call('ZADD', queue, 'XX', score, id)
  local retry = 'arq:retry:' .. id
  if (tonumber(redis.call('GET', retry) or '0') or 0) <= 1 then redis.call('DEL', retry) else redis.call('DECR', retry) end
  if owner and string.sub(token, 1, #owner) == owner then redis.call('DEL', isolating) owner = false end
end

local report = {}
for _, token in ipairs(order) do
  report[#report + 1] = token
  report[#report + 1] = left[token]
end
return report
