-- Claim one group of due jobs, and beside it the few due jobs that stock arq has to run itself.
--
-- KEYS  1 queue   zset    job id -> score (ms); arq's own. A claimed job's score is its lease's end.
--       2 leases   3 sizes   4 claims   5 suspects   (record.lua)
--       6 fence      string  number of the last claim
--       7 paused     string  present: nothing may be claimed
--       8 isolating  string  "!worker" runs, or "?worker" waits to run, jobs that crashed processes twice, alone
--       9 abort      zset    arq's own: ids somebody asked to abort
-- ARGV  1 now_ms (the worker's clock, as in stock arq: what is due)   2 lease_ms   3 token, never used before
--       4 worker id   5 max_items   6 free slots: a group takes one, a stock job takes one
--       7 in-progress time of a stock job, ms   8 linger_ms   9 head_start_ms
--      10 "1" if this worker runs no group now   11 "1" if aborts are honoured
--      12.. names of the batch functions; none: every payload is taken for a batch job
-- RETURN {status, wait_ms, fence, kind, group, stock}
--       status "ok" | "empty" | "linger" | "paused" | "isolate" (finish what runs, then come back alone)
--       kind "normal" | "suspect" | "exclusive" | "dead"
--       group flat {id, score, try, payload, ...}    stock flat {id, score, ...}
--             try 0: somebody asked to abort it
--
-- A try is counted in arq:retry: when it ends as one (settle.lua): a claim that is handed back, or dies, costs none.
-- Why atomic: between looking at a job and marking it no other replica may look at it, and a job
-- that somebody holds must never look free. Keys of single jobs are built from ids, so this runs on one Redis (or one with
-- replicas), not on a Redis Cluster; arq itself has the same limit.
-- Bulk commands (MGET, HMGET, variadic ZADD) keep it near two commands a job.

local queue, leases, sizes, claims, suspects, fence_key, paused, isolating, aborts = unpack(KEYS)
local now, lease_ms, token, worker = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local max_items, slots, stock_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local linger_ms, head_start_ms = tonumber(ARGV[8]), tonumber(ARGV[9])
local alone, heed_aborts = ARGV[10] == '1', ARGV[11] == '1'

if redis.call('EXISTS', paused) == 1 then return {'paused', -1} end

local function next_due()
  local first = redis.call('ZRANGEBYSCORE', queue, '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then return math.ceil(tonumber(first[2]) - now) end
  return -1
end

local due = redis.call('ZCOUNT', queue, '-inf', ARGV[1])
if due == 0 then return {'empty', next_due()} end

-- A small queue waits a little for company, but stock jobs do not. Interactive jobs carry a head start in their score:
-- take it off again.
local linger_left = 0
if due < max_items and linger_ms > 0 then
  local first = redis.call('ZRANGEBYSCORE', queue, '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, 1)
  local age = now - tonumber(first[2])
  if age >= head_start_ms then age = age - head_start_ms end
  linger_left = math.max(0, math.ceil(linger_ms - age))
end

local troubled = redis.call('EXISTS', suspects) == 1
-- Jobs whose lease just ran out look free, but their score is the lease's end: they are sweep.lua's.
local unswept, none_unswept = {}, true
for i, value in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', whole(clock_ms() + 1), 'WITHSCORES')) do
  if i % 2 == 0 then unswept[value], none_unswept = true, false end
end
local stock, visited = {}, {}
local ids, scores, payloads, taken = {}, {}, {}, 0  -- the group
local kind, limit = nil, max_items
local told_to_isolate = false

local function looks_batch(payload)
  if #ARGV < 12 then return true end
  for i = 12, #ARGV do
    if string.find(payload, ARGV[i], 1, true) then return true end
  end
  return false
end

-- One worker at a time; one that is idle goes before one that still has to get idle.
local function may_isolate()
  local owner = redis.call('GET', isolating)
  local waits = owner and string.sub(owner, 1, 1) == '?'
  if owner and string.sub(owner, 2) ~= worker and not (alone and waits) then return false end
  redis.call('SET', isolating, (alone and '!' or '?') .. worker, 'PX', lease_ms * 2)
  return true
end

-- May this job join the group? Sets what kind of group it is when it is the first.
local function admit(rec)
  local its_kind, its_limit = 'normal', max_items
  if rec then
    if rec.dead then its_kind = 'dead'
    else
      its_limit = rec.limit
      its_kind = rec.crashes >= 2 and 'exclusive' or 'suspect'
    end
  end
  if kind then
    if kind ~= its_kind or taken + 1 > its_limit then return false end
  elseif its_kind == 'exclusive' then
    if not may_isolate() then return false end
    if not alone then told_to_isolate = true return false end
  end
  kind, limit = its_kind, math.min(limit, its_limit)
  return true
end

-- Walk one band of scores until the group holds `quota` jobs.
local function walk(min, max, quota)
  local offset = 0
  while math.min(quota, limit) > taken and not told_to_isolate do
    local chunk = math.max(64, quota - taken)
    local rows = redis.call('ZRANGEBYSCORE', queue, min, max, 'WITHSCORES', 'LIMIT', offset, chunk)
    if #rows == 0 then return end
    local seen, lock_keys, job_keys, n = {}, {}, {}, #rows / 2
    for i = 1, n do
      local id = rows[2 * i - 1]
      seen[i], lock_keys[i], job_keys[i] = id, 'arq:in-progress:' .. id, 'arq:job:' .. id
    end
    local locks = redis.call('MGET', unpack(lock_keys))
    local found = troubled and redis.call('HMGET', suspects, unpack(seen))
    local contents = redis.call('MGET', unpack(job_keys))
    for i = 1, n do
      local id = seen[i]
      if taken >= math.min(quota, limit) or told_to_isolate then return end
      local score = rows[2 * i]
      if not locks[i] and not visited[id] and (none_unswept or not unswept[score]) then
        local rec, payload = found and found[i] and parse(found[i]), contents[i]
        if not payload or not looks_batch(payload) then
          if #stock / 2 + (kind and 1 or 0) < slots then
            if rec then redis.call('HDEL', suspects, id) end
            visited[id] = true
            redis.call('SET', lock_keys[i], '1', 'PX', stock_ms)
            stock[#stock + 1] = id
            stock[#stock + 1] = score
          end
        elseif linger_left == 0 and (kind or #stock / 2 < slots) and admit(rec) then
          taken = taken + 1
          visited[id] = true
          ids[taken], scores[taken], payloads[taken] = id, score, payload
        end
      end
    end
    offset = offset + n
    if n < chunk then return end
  end
end

-- The early band holds interactive jobs and whatever waited longer than their head start. A quarter of the group is
-- kept for the others, so that neither side ever stands still.
local edge = whole(now - head_start_ms)
local later = redis.call('ZCOUNT', queue, '(' .. edge, ARGV[1])
walk('-inf', edge, max_items - math.min(later, math.floor(max_items / 4)))
walk('(' .. edge, ARGV[1], max_items)
if later > 0 and taken < limit then walk('-inf', edge, max_items) end

if taken == 0 then
  if told_to_isolate then return {'isolate', -1, 0, 'exclusive', {}, stock} end
  if linger_left > 0 then return {'linger', linger_left, 0, 'normal', {}, stock} end
  if #stock > 0 then return {'ok', -1, 0, 'normal', {}, stock} end
  return {'empty', next_due()}
end

-- The fence grows with every claim, also over a flushed Redis: it never falls behind the clock (µs).
local fence = math.max(tonumber(redis.call('GET', fence_key) or '0') + 1, clock_us())
local fence_text = whole(fence)
redis.call('SET', fence_key, fence_text)

local ends = whole(clock_ms() + lease_ms)
local retry_keys, zadd, flat, places = {}, {}, {}, {}
for i = 1, taken do retry_keys[i] = 'arq:retry:' .. ids[i] end
local tries = redis.call('MGET', unpack(retry_keys))  -- nil comes as false; tonumber(false) is nil
local unwanted = heed_aborts and redis.call('EXISTS', aborts) == 1 and redis.call('ZMSCORE', aborts, unpack(ids))
for i = 1, taken do
  local id, score = ids[i], scores[i]
  redis.call('SET', 'arq:in-progress:' .. id, token, 'PX', ARGV[2])
  zadd[2 * i - 1], zadd[2 * i] = ends, id
  places[2 * i - 1], places[2 * i] = id, score
  local try = unwanted and unwanted[i] and 0 or (tonumber(tries[i]) or 0) + 1
  flat[4 * i - 3], flat[4 * i - 2], flat[4 * i - 1], flat[4 * i] = id, score, try, payloads[i]
end
redis.call('ZADD', queue, unpack(zadd))
redis.call('ZADD', leases, ends, token)
redis.call('HSET', sizes, token, taken)
redis.call('HSET', claims, token, cmsgpack.pack(places))
return {'ok', -1, fence_text, kind, flat, stock}
