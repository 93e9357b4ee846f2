--[[
Stage-out by writeback-broker, for Slurm's burst_buffer/lua plugin (21.08 or later). A batch job asks for it in its script:

  #BB_LUA writeback cache=scratch export=/exp1 directory=/run42 include=*.h5 file=/log.txt

The job stays in the state STAGE_OUT until the files are on the permanent store, so "--dependency afterok" of another
job means: the data is there. slurmctld runs this file as SlurmUser and needs no mount of the cache.

From Slurm 24.05 on slurm_bb_data_out submits and slurm_bb_test_data_out says BUSY until the end; before, there is only
slurm_bb_data_out, and it waits. Whichever function is killed, with slurmctld or alone, is run again by Slurm and comes
to the same flush: its idempotency key is made of the job and the start of its run.
--]]

local CONF = "/etc/writeback/hook.conf"
local NAMES = { cache = 1, export = 1, file = 1, directory = 1, include = 1, exclude = 1 }
local POLLS = slurm.SLURM_BB_BUSY ~= nil
-- Slurm writes down which jobs have a burst buffer every 30 s.
local RECORDED_WITHIN_S = 40

-- Users write the directives: whatever comes from them is one quoted word of the shell, never a part of it.
local function quoted(text)
	return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- Runs a command of the shell, with the credential for a user if that is how hook.conf has it.
-- Gives the exit status and what was said. io.popen():close() tells the status only from Lua 5.2 on.
local function run(command, user)
	local script = "set -a; SLURM_JOB_USER=" .. quoted(user or "") .. "; [ -r " .. quoted(CONF) .. " ] && . "
		.. quoted(CONF) .. "; " .. command
	local pipe = io.popen("{ " .. script .. "; } 2>&1; echo \"=$?\"")
	local said, status = pipe:read("*a"):match("^(.-)%s*=(%d+)%s*$")
	pipe:close()
	return tonumber(status) or -1, said or ""
end

local function sleep(seconds)
	os.execute("sleep " .. seconds)
end

-- The directives stand before the first line that is no comment, as Slurm reads them.
local function requests_in(job_script)
	local found = {}
	for line in io.lines(job_script) do
		if line:sub(1, 1) == "#" then
			local words = line:match("^#BB_LUA%s+writeback%s+(.+)$") or line:match("^#WB%s+(.+)$")
			found[#found + 1] = words
		elseif line ~= "" then
			break
		end
	end
	return found
end

local function fault_in(words)
	local rest = words:gsub('([a-z]+)=[^%s"]*"[^"]*"', "%1=x"):gsub('"[^"]*"', "x")
	local seen = {}
	for word in rest:gmatch("%S+") do
		local name = word:match("^([a-z]+)=.")
		if not (name and NAMES[name]) then
			return "not understood: " .. word
		end
		seen[name] = true
	end
	if not (seen.cache and seen.export and (seen.file or seen.directory)) then
		return "cache=, export= and file= or directory= are needed"
	end
end

local function fact(config, name)
	return config:match("\n" .. name .. "%s*= (%S+)") or ""
end

-- Gives the name of the job, the start of this run of it, which tells it from those before a requeue, and its user.
local function run_of(job_id)
	local status, jobs = run("squeue --noheader --jobs " .. quoted(job_id) .. " --format '%A %S %u'")
	for line in (status == 0 and jobs or ""):gmatch("[^\n]+") do
		local number, start, user = line:match("^%s*(%d+) (%S+) (%S+)")
		if number == job_id then
			local _, config = run("scontrol show config")
			return "slurm-" .. fact(config, "ClusterName") .. "-" .. job_id, start, user
		end
	end
end

-- Submits what the job asks for, or finds it submitted. Gives the flushes; or nil, what went wrong, and whether it may
-- be over the next time.
local function submit(job_id, job_script)
	local name, start, user = run_of(job_id)
	if not name then
		return nil, "squeue does not tell of the job", true
	end
	local ids = {}
	for n, words in ipairs(requests_in(job_script)) do
		local status, said = run("writeback submit --no-wait --request " .. quoted(words)
			.. " --idempotency-key " .. quoted(name .. "-" .. start .. "-" .. n)
			.. " --label " .. quoted("batch-job=" .. name) .. " --label " .. quoted("user=" .. user), user)
		if status ~= 0 then
			return nil, said, status == 69
		end
		ids[#ids + 1] = quoted(said:match("%S+$"))
	end
	return { ids = ids, user = user }
end

-- Gives "done", "busy" or "failed", and what was said.
local function wait(flushes, seconds)
	if #flushes.ids == 0 then
		return "done", ""
	end
	local ids = table.concat(flushes.ids, " ")
	local status, said = run("writeback wait --timeout " .. seconds .. " " .. ids, flushes.user)
	if status == 0 then
		return "done", said
	end
	return (status == 69 or status == 124) and "busy" or "failed", said
end

local function failed(job_id, said)
	slurm.log_error("writeback: job %s: %s", job_id, said)
	return slurm.ERROR, said
end

-- Called while slurmctld holds locks: it only reads the script.
function slurm_bb_job_process(job_script)
	for _, words in ipairs(requests_in(job_script)) do
		local fault = fault_in(words)
		if fault then
			return slurm.ERROR, "writeback directive: " .. fault
		end
	end
	return slurm.SUCCESS
end

function slurm_bb_pools()
	return slurm.SUCCESS
end

function slurm_bb_setup()
	return slurm.SUCCESS
end

-- A slurmctld that is killed before it has written down that the job has a burst buffer, leaves the job in STAGE_OUT for
-- ever when it comes back. The job still waits for nodes here, so waiting for that costs them nothing.
function slurm_bb_data_in(job_id)
	local _, config = run("scontrol show config")
	local state_file = fact(config, "StateSaveLocation") .. "/burst_buffer_lua_state"
	-- As Slurm packs a string: its length with the NUL, in four bytes, and the string.
	local name = "\0\0\0" .. string.char(#job_id + 1) .. job_id .. "\0"
	for _ = 1, RECORDED_WITHIN_S do
		local file = io.open(state_file, "rb")
		local state = file and file:read("*a")
		if file then
			file:close()
		end
		if not state or state:find(name, 1, true) then
			break
		end
		sleep(1)
	end
	return slurm.SUCCESS
end

function slurm_bb_test_data_in()
	return slurm.SUCCESS
end

function slurm_bb_real_size()
	return slurm.SUCCESS
end

function slurm_bb_paths()
	return slurm.SUCCESS
end

function slurm_bb_pre_run()
	return slurm.SUCCESS
end

function slurm_bb_post_run()
	return slurm.SUCCESS
end

function slurm_bb_data_out(job_id, job_script)
	local flushes, said, may_pass = submit(job_id, job_script)
	while not flushes do
		if not may_pass then
			return failed(job_id, said)
		end
		slurm.log_info("writeback: job %s: %s", job_id, said)
		sleep(5)
		flushes, said, may_pass = submit(job_id, job_script)
	end
	if POLLS then
		return slurm.SUCCESS
	end
	local state
	repeat
		-- Not longer than a credential lives that was made for this wait.
		state, said = wait(flushes, 120)
		if state == "busy" then
			sleep(5)
		end
	until state ~= "busy"
	if state == "failed" then
		return failed(job_id, said)
	end
	return slurm.SUCCESS
end

-- From Slurm 24.05 on; asked again after every BUSY, until StageOutTimeout.
function slurm_bb_test_data_out(job_id, job_script)
	local flushes, said, may_pass = submit(job_id, job_script)
	local state = may_pass and "busy" or "failed"
	if flushes then
		state, said = wait(flushes, 1)
	end
	if state == "busy" then
		return slurm.SUCCESS, slurm.SLURM_BB_BUSY
	elseif state == "failed" then
		return failed(job_id, said)
	end
	return slurm.SUCCESS
end

-- What runs already ends by itself: data that is asked for loses nothing by being written back.
function slurm_bb_job_teardown()
	return slurm.SUCCESS
end

function slurm_bb_get_status()
	return slurm.SUCCESS, "writeback jobs --label batch-job=slurm-CLUSTER-JOBID shows the flushes of a job\n"
end
