--!df flags=allow-undeclared-keys
-- Shared by the scripts beside it, and put in front of each. (Its first line lets Dragonfly run them: keys of single
-- jobs are built from ids that a script reads, so they cannot be declared. For the same reason this is for one Redis,
-- or one with replicas, not for a Redis Cluster; arq itself has the same limit.)
--
-- How ownership is written. A claimed group has a token and ONE lease: `leases` holds token -> its end (ms), renewed
-- while the work runs. Its jobs are kept from stock arq workers, which know no leases, by a longer hold: each has the
-- token in arq:in-progress:<id> until the hold's end, and that end as its score in the queue. `holds` has token -> end
-- of the hold, `sizes` token -> open jobs, `claims` token -> MessagePack {id, score before the claim, ...}.
-- So a job is a group's own if
--   its lock is the group's token, or
--   its lock ran out, nobody took the job since (its score is still the hold's end), and the group was not swept.
-- The second line lets a worker keep its jobs over a Redis that was away longer than a hold.
--
-- `suspects` holds job id -> "limit|crashes|soft|blamed|dead", only for jobs that were in trouble:
--   limit    largest group the job may join
--   crashes  how often the process died under it      soft  how often its group raised or overran
--   blamed   token of the claim whose death was booked last, so that a worker that only stood still can take it back
--   dead     1: condemned, to be buried instead of run
--
-- Jobs that nobody may take now must not be in the claim's way: they are set aside, i.e. get a score in the future and
-- stand with their real one in `quarantine` (two crashes or more: to run alone in a process) or in `foreign` (jobs of
-- other functions that found no free slot). Where nobody takes them from there they come due by themselves.

local unpack = unpack or table.unpack
local SET_ASIDE_MS = 60000

local function parse(text)
  local limit, crashes, soft, blamed, dead = string.match(text, '^(%d+)|(%d+)|(%d+)|([^|]*)|(%d)$')
  if not limit then return nil end  -- not of our hand
  return {limit = math.max(1, tonumber(limit)), crashes = tonumber(crashes), soft = tonumber(soft), blamed = blamed,
          dead = dead == '1'}
end

local function text_of(r)
  return table.concat({r.limit, r.crashes, r.soft, r.blamed, r.dead and '1' or '0'}, '|')
end

local function whole(number) return string.format('%.0f', number) end

local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function clock_ms() return math.floor(clock_us() / 1000) end

-- Call with the list's members as arguments, some at a time: unpack() is bounded by Lua's stack.
local function in_chunks(list, call)
  for from = 1, #list, 1000 do call(unpack(list, from, math.min(from + 999, #list))) end
end

-- A Redis that is full refuses a script's first write if that takes memory, and nothing after the first. Call it before
-- other writes in scripts that must go through all the same, because only they can free memory.
local function write_even_when_full(sizes) redis.call('HDEL', sizes, '') end

-- A test whether a job is the group's own; see above. `locks` are asked in bulk by the caller.
local function owner_of(token, queue, holds)
  local hold_end
  return function(id, lock)
    if lock then return lock == token end
    if hold_end == nil then hold_end = redis.call('ZSCORE', holds, token) end
    return hold_end and redis.call('ZSCORE', queue, id) == hold_end
  end
end

-- The worker that held `token` lives: crashes booked on its account were none.
local function pardon(suspects, ids, token)
  if #ids == 0 or redis.call('EXISTS', suspects) == 0 then return end
  for i, text in ipairs(redis.call('HMGET', suspects, unpack(ids))) do
    local r = text and parse(text)
    if r and r.blamed == token then
      r.crashes, r.blamed, r.dead = math.max(0, r.crashes - 1), '', false
      if r.crashes == 0 and r.soft == 0 then redis.call('HDEL', suspects, ids[i])
      else redis.call('HSET', suspects, ids[i], text_of(r)) end
    end
  end
end

-- The group is no more.
local function dissolve(token, leases, holds, sizes, claims)
  redis.call('ZREM', leases, token)
  redis.call('ZREM', holds, token)
  redis.call('HDEL', sizes, token)
  redis.call('HDEL', claims, token)
end

