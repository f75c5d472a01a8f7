-- Put jobs of dead replicas back: their lease ran out and nobody renewed or settled it.
--
-- KEYS  1 queue   2 leases   3 claims   4 isolating   (see claim.lua)
-- ARGV  1 crashes before a job can be condemned   2 crashes after which it always is   3 at most so many jobs
-- RETURN flat {token, jobs put back, ...}
--
-- No try is counted: a crash has its own account. All jobs of the dead group that were not settled become
-- suspects and may only run in groups of half their number; from the second crash on, in a process that runs nothing
-- else (claim.lua); a job that was alone in such a process when it died is condemned (`dead`).
-- Why atomic: a worker that is only slow may renew at any moment; it is this or that, never half of each.

local queue, leases, claims, isolating = unpack(KEYS)
local min_crashes, max_crashes = tonumber(ARGV[1]), tonumber(ARGV[2])
local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', whole(clock_ms()), 'LIMIT', 0, ARGV[3])
if #ids == 0 then return {} end

local records = redis.call('HMGET', claims, unpack(ids))
local orphans, left, order = {}, {}, {}
for i, id in ipairs(ids) do
  local lock = redis.call('GET', 'arq:in-progress:' .. id)
  local r = records[i] and parse(records[i])
  if not r or r.token == '' or (lock and lock ~= r.token) then
    redis.call('ZREM', leases, id)  -- settled, or run by a stock arq worker meanwhile
    if lock then redis.call('HDEL', claims, id) end
  elseif not lock then
    orphans[#orphans + 1] = {id, r}
    if not left[r.token] then left[r.token] = 0 order[#order + 1] = r.token end
    left[r.token] = left[r.token] + 1
  end
end

local owner = redis.call('GET', isolating)
for _, orphan in ipairs(orphans) do
  local id, r = orphan[1], orphan[2]
  local n, token = left[r.token], r.token
  r.crashes = r.crashes + 1
  r.dead = (n == 1 and r.crashes >= min_crashes) or r.crashes >= max_crashes
  r.token, r.blamed, r.limit = '', token, math.max(1, math.floor(n / 2))
  redis.call('HSET', claims, id, text_of(r))
  redis.call('ZREM', leases, id)
  redis.call('ZADD', queue, 'XX', r.score, id)
  if owner and string.sub(token, 1, #owner) == string.sub(owner, 2) .. ':' then
    redis.call('DEL', isolating)
    owner = false
  end
end

local report = {}
for _, token in ipairs(order) do
  report[#report + 1] = token
  report[#report + 1] = left[token]
end
return report
